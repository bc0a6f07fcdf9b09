#!/bin/sh
# Calls a remote object without a line of Python: sh calls.sh HOST:PORT
# Needs grpcurl (https://github.com/fullstorydev/grpcurl) on the PATH.
set -eu
at=$1

show() {
    printf '\n# %s\n' "$1"
}

invoke() {
    grpcurl -plaintext -d "$1" "$at" broker.v1.ObjectBroker/Invoke
}

show 'Which services are there?'
grpcurl -plaintext "$at" list

show 'Is it well?'
grpcurl -plaintext "$at" grpc.health.v1.Health/Check

show 'What can the object do?'
grpcurl -plaintext -d '{"object": "example.notebook"}' "$at" broker.v1.ObjectBroker/Lookup

show 'Call a method with positional arguments.'
invoke '{"object": "example.notebook", "method": "write", "args": ["shopping", "bread"]}'

show 'Call it with keyword arguments.'
invoke '{"object": "example.notebook", "method": "write", "kwargs": {"name": "shopping", "text": ", tea", "append": true}}'

show 'Read what was written.'
invoke '{"object": "example.notebook", "method": "read", "args": ["shopping"]}'

show 'Read a property: by its name, like a method.'
invoke '{"object": "example.notebook", "method": "names"}'

show 'What JSON cannot hold comes tagged …'
invoke '{"object": "example.notebook", "method": "bounds"}'

show '… or as well as JSON can, if that is enough.'
invoke '{"object": "example.notebook", "method": "bounds", "plain": true}'

show 'What the method raises is a result.'
invoke '{"object": "example.notebook", "method": "read", "args": ["nothing"]}'

show 'What the broker refuses is a gRPC status, and grpcurl ends with an error.'
if invoke '{"object": "example.notebook", "method": "burn"}'; then
    exit 1
fi
