"""The process of a client: `python -m benchmarks.client CONTESTANT ROW CORE SECONDS ADDRESS SERVER_PID`.

Its last line says what it found, as JSON: a value, or why there is none.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.client import CannotDo
from benchmarks.processes import FOUND, pin
from benchmarks.works import ROWS, Setting


def main(name: str, row_name: str, core: str, seconds: str, address: str, server_pid: str) -> None:
    pin(core)
    contestant, row = CONTESTANTS[name], ROWS[row_name]
    module: Any = None if row.bare else contestant.load()
    setting = Setting(
        connect=lambda: module.CLIENT(contestant.variant, address),
        seconds=float(seconds),
        server_pid=int(server_pid),
        package=contestant.package,
    )
    found: dict[str, object]
    try:
        found = {"value": row.measure(setting)}
    except CannotDo as cannot:
        found = {"cannot": str(cannot)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    print(FOUND + json.dumps(found), flush=True)
    os._exit(0)  # whatever threads are left


if __name__ == "__main__":
    main(*sys.argv[1:])
