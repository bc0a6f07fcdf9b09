"""Begins experiments and gives them up, in every way there is: `python client.py URI URI`."""

from __future__ import annotations

import signal
import subprocess
import sys

import broker

laboratory, annex = map(broker.Proxy, sys.argv[1:])

# One that is waited for.
print("done:", laboratory.grow("salt", 0.05))

# A timeout. What remains of the time travels with the call, so that the method knows it too.
hasty = broker.Proxy(sys.argv[1], timeout=0.3)
try:
    hasty.grow("quartz", 60)
except TimeoutError as error:
    print("timeout:", error)
print("in the diary:", *laboratory.diary(2))

# A future that is cancelled, also while the method runs.
future = laboratory.sieve.future(10**12)
laboratory.grow("sugar", 0.1)
print("cancelled:", future.cancel())
print("in the diary:", *laboratory.diary(4))

# An `async def` method.
future = laboratory.brew.future(60)
laboratory.grow("ice", 0.1)
future.cancel()
print("in the diary:", *laboratory.diary(6))

# A call inside a call: the annex is told by the laboratory, which was told by this program.
future = laboratory.assist.future(annex, "ruby")
laboratory.grow("alum", 0.1)
future.cancel()
print("in the diary of the annex:", *annex.diary(1))

# A program that is killed in the middle of a call.
helper = subprocess.Popen([sys.executable, "-c", f"import broker; broker.Proxy({sys.argv[1]!r}).grow('jade', 60)"])
laboratory.grow("sulphur", 2)
helper.send_signal(signal.SIGKILL)
print("in the diary:", *laboratory.diary(9), f"(the helper ended with {-helper.wait()})")
