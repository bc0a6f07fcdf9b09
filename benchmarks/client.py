"""The process of a client: `python -m benchmarks.client CONTESTANT WORK CORE SECONDS ADDRESS SERVER_PID`.

Its last line says what it found, as JSON: figures, or why there is none.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from benchmarks import clocks, profiling
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.client import CannotDo
from benchmarks.processes import FOUND, pin
from benchmarks.works import WORKS, Setting, Work


def main(name: str, work_name: str, core: str, seconds: str, address: str, server_pid: str) -> None:
    pin(core)
    contestant, work = CONTESTANTS[name], WORKS[work_name]
    module: Any = None if work.bare else contestant.load()
    setting = Setting(
        connect=lambda: module.CLIENT(contestant.variant, address),
        seconds=float(seconds),
        server_pid=int(server_pid),
        package=contestant.package,
    )
    found: dict[str, object]
    try:
        found = measured(work, setting)
    except CannotDo as cannot:
        found = {"cannot": str(cannot)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    print(FOUND + json.dumps(found), flush=True)
    os._exit(0)  # whatever threads are left


def measured(work: Work, setting: Setting) -> dict[str, object]:
    """The figures, and what a profile has besides."""
    mode = os.environ.get(profiling.MODE)
    observer, profilers = profiling.Observer(setting.server_pid), profiling.Profilers()
    if mode == "threads":
        clocks.observe = observer
    elif mode == "functions":
        profilers.start()
        clocks.observe = profilers.mark
    values = work.measure(setting)
    found: dict[str, object] = {"values": values if isinstance(values, tuple) else (values,)}
    if mode == "threads":
        found |= {"used": observer.used(), "names": observer.names, "done": clocks.done}
    elif mode == "functions":
        found |= {"functions": profilers.functions(), "done": clocks.done}
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
