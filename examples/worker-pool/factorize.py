"""Has numbers factorized by whoever works for the dispatcher: `python factorize.py URI`."""

from __future__ import annotations

import random
import sys

import broker

dispatcher = broker.Proxy(sys.argv[1], timeout=60)
numbers = random.Random(17).sample(range(10**8, 10**10), 40)

futures = {number: dispatcher.factorize.future(number) for number in numbers}  # all under way at once
for number, future in futures.items():
    product = 1
    for factor in future.result():
        product *= factor
    assert product == number
print(len(futures), "numbers factorized, and every product is right")
for worker, count in sorted(dispatcher.report().items()):
    print(f"{worker} did {'some' if count else 'none'} of them")
