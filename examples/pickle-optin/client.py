"""Sends a function: `python client.py URI`. This proxy uses pickle because it was asked to."""

from __future__ import annotations

import functools
import operator
import sys

import broker

uri = sys.argv[1]
calculator = broker.Proxy(uri)
print("the default codec:", calculator.total())

triple = functools.partial(operator.mul, 3)
try:
    calculator.apply(triple)
except broker.errors.CodecError as error:
    print("json refuses:", error)

trusting = broker.Proxy(uri, codec="pickle")
print("pickle:", trusting.apply(triple))
