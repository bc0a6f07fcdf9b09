#!/bin/sh
# Calls the order desk without a line of Python: sh calls.sh HOST:PORT
# Needs grpcurl (https://github.com/fullstorydev/grpcurl) on the PATH.
set -eu
at=$1

show() {
    printf '\n# %s\n' "$1"
}

show 'What can be called?'
grpcurl -plaintext "$at" describe example.orders

show 'What does an order look like?'
grpcurl -plaintext "$at" describe example.orders_types.Order

show 'Place one.'
grpcurl -plaintext -d '{"customer": "Janet", "items": [{"name": "chair", "count": 2}]}' "$at" example.orders/place

show 'Follow it: a stream.'
grpcurl -plaintext -d '{"number": 1}' "$at" example.orders/follow

show 'Bring something: a stream in the other direction.'
grpcurl -plaintext -d '{"deliveries": {"name": "lamp", "count": 3}} {"deliveries": {"name": "chair"}}' "$at" example.orders/restock

show 'Read a property.'
grpcurl -plaintext "$at" example.orders/get_open_orders

show 'What a method raises is a status with details.'
if grpcurl -plaintext -d '{"customer": "Henry", "items": [{"name": "couch", "count": 5}]}' "$at" example.orders/place; then
    exit 1
fi
