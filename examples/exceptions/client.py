"""Catches what a remote object raises: `python client.py URI`."""

from __future__ import annotations

import sys
import traceback

import broker


@broker.register_type(name="example.InsufficientFunds")
class InsufficientFunds(Exception):
    """There is less in the account than was asked for."""

    missing: int


counter = broker.Proxy(sys.argv[1])
print("left:", counter.withdraw("janet", 30))

try:  # a builtin class: arrives as itself
    counter.withdraw("janet", -5)
except ValueError as error:
    print("ValueError:", error)

try:  # a class of our own that both sides know: arrives as itself, with its attributes
    counter.withdraw("janet", 100)
except InsufficientFunds as error:
    print("InsufficientFunds:", error, "and .missing is", error.missing)

try:  # a class that only the server knows: a RemoteError, and an instance of the nearest builtin base
    counter.withdraw("nobody", 1)
except broker.errors.RemoteError as error:
    print("RemoteError:", error, "of the type", error.type, "and a KeyError:", isinstance(error, KeyError))

try:  # wrong arguments: no code of the server ran
    counter.withdraw("janet")
except TypeError as error:
    print("TypeError:", error)

print("\nThe traceback of the server is shown below that of the client:\n")
try:
    counter.withdraw("janet", 0)
except ValueError as error:
    traceback.print_exception(error, file=sys.stdout)
    print("\nand by itself it is:\n")
    print(broker.errors.get_remote_traceback(error))
