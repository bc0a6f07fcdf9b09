"""Does the shopping in one go: `python client.py URI`."""

from __future__ import annotations

import sys
import time

import broker

till = broker.Proxy(sys.argv[1])

# Calls are gathered, and made when the batch is called. Results come in the order of the calls.
shopping = broker.Batch(till)
shopping.scan("bread", 420)
shopping.scan("egg", 35, count=6)
shopping.receipt()
shopping.pay(1000)
*totals, receipt, change = shopping()
print("totals:", *totals)
print("receipt:", ", ".join(receipt))
print("change:", change)

# The first error ends the batch: nothing behind it is carried out. Calling a batch has emptied it.
shopping.scan("tea", 500)
shopping.scan("air", 0)
shopping.pay(2000)
try:
    for total in shopping():
        print("so far:", total)
except ValueError as error:
    print("then:", error)
print("still to be paid for:", ", ".join(till.receipt()))

# Unless the rest is to be carried out all the same.
careless = broker.Batch(till, stop_on_error=False)
careless.pay(1)
careless.haggle()
careless.pay(500)
results = careless()
for _ in range(3):
    try:
        print("result:", next(results))
    except (ValueError, AttributeError) as error:
        print("error:", str(error).split(" (")[0])

# What it is good for.
COUNT = 1000
start = time.perf_counter()
for _ in range(COUNT):
    till.scan("grain of rice", 1)
one_by_one = time.perf_counter() - start
start = time.perf_counter()
rice = broker.Batch(till)
for _ in range(COUNT):
    rice.scan("grain of rice", 1)
bill = list(rice())[-1]
batched = time.perf_counter() - start
print(f"{COUNT} calls one by one: {1000 * one_by_one:.1f} ms")
print(f"{COUNT} calls in a batch: {1000 * batched:.1f} ms")
print("grains on the bill:", bill)

rice.pay(bill)
rice(oneway=True)  # does not wait at all
print("paid:", till.receipt() == [])
