"""Two clients use each of the classes: `python client.py URI…`, with all the URIs that the server printed."""

from __future__ import annotations

import sys

import broker

for uri in sys.argv[1:]:
    print(f"{broker.URI(uri).object}:")
    with broker.Proxy(uri) as janet, broker.Proxy(uri) as henry:
        print("    Janet:", janet.put("apple"))
        print("    Henry:", henry.put("pear"))
        print("    Janet:", janet.put("plum"))
        janet._broker.close()  # ends her session; the next call begins a new one
        print("    Janet, in a new session:", janet.put("quince"))
