"""Finds printers by what they can do: `python client.py`."""

from __future__ import annotations

import broker

with broker.locate_ns() as names:
    for name, (_, tags) in names.list("example.printer.", with_tags=True).items():
        print(f"{name}: {', '.join(sorted(tags))}")
    print("colour:", ", ".join(names.list(tags_all=["colour"])))
    print("colour and A3:", ", ".join(names.list(tags_all=["colour", "A3"])))
    print("photo or A3:", ", ".join(names.list(tags_any=["photo", "A3"])))

print(broker.Proxy("BROKERMETA:colour,A3").submit("the poster"))
print(broker.Proxy("BROKERMETA:A4").submit("the letter"))  # any of those that have it

try:
    broker.Proxy("BROKERMETA:A4,gold").submit("the crown")
except broker.errors.NamingError as error:
    print("nobody:", error)
