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
hasty = broker.Proxy(sys.argv[1], timeout=1)
try:
    hasty.grow("quartz", 60)
except TimeoutError as error:
    print("timeout:", error)
print("in the diary:", laboratory.wait_for("quartz: thrown away, nobody waits for it"))

# A future that is cancelled, also while the method runs.
future = laboratory.sieve.future(10**12)
laboratory.wait_for("sand: begun")
print("cancelled:", future.cancel())
print("in the diary:", laboratory.wait_for("sand: stopped before the end"))

# An `async def` method.
future = laboratory.brew.future(60)
laboratory.wait_for("tea: begun")
future.cancel()
print("in the diary:", laboratory.wait_for("tea: poured away"))

# A call inside a call: the annex is told by the laboratory, which was told by this program.
future = laboratory.assist.future(annex, "ruby")
annex.wait_for("ruby: planted")
future.cancel()
print("in the diary of the annex:", annex.wait_for("ruby: thrown away, nobody waits for it"))

# A program that is killed in the middle of a call.
helper = subprocess.Popen([sys.executable, "-c", f"import broker; broker.Proxy({sys.argv[1]!r}).grow('jade', 60)"])
laboratory.wait_for("jade: planted")
helper.send_signal(signal.SIGKILL)
print("in the diary:", laboratory.wait_for("jade: thrown away, nobody waits for it"), "(the helper was killed)")
helper.wait()
