"""Submits pages without waiting for them: `python client.py URI`."""

from __future__ import annotations

import sys
import threading

import broker

uri = sys.argv[1]
printer = broker.Proxy(uri)

for page in ("page 1", "page 2", "page 3"):
    print(f"submitted {page}:", printer.submit(page))

# The oneway calls of one thread through one proxy run one after another, before what that thread calls next: had this
# thread called switch_on() now through the same proxy, it would wait for pages that wait for switch_on(). Another
# thread, or another proxy, has an order of its own.
switcher = threading.Thread(target=broker.Proxy(uri).switch_on)
switcher.start()
switcher.join()
print("printed in order:", printer.printed(3))

printer.submit("")  # fails over there, where it is logged; nothing happens here
print("the caller of an empty page noticed nothing")

printer.printed.oneway(0)  # any method can be called so
print("a method that is not marked was called without waiting, too")

# The end of a process ends its connections, and calls that have not started by then are not started. So the last thing
# here is a call that waits: it comes after the oneway calls of this thread.
print("in the end:", len(printer.printed(3)), "pages")
