"""The process of a server: `python -m benchmarks.server CONTESTANT CORE VARIANT`. It ends when its stdin does."""

from __future__ import annotations

import json
import os
import sys
import threading

from benchmarks import profiling
from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import PROFILE, READY, pin


def main(name: str, core: str, variant: str) -> None:
    pin(core)
    profilers = profiling.Profilers()
    threading.Thread(target=_obey, args=(profilers,), daemon=True).start()
    if os.environ.get(profiling.MODE) == "functions":
        profilers.start()

    def ready(address: str) -> None:
        profilers.mark()
        print(READY + address, flush=True)

    CONTESTANTS[name].load().serve(variant, ready)


def _obey(profilers: profiling.Profilers) -> None:
    for _ in sys.stdin:  # the one thing that may be asked
        found = {"names": profiling.thread_names(), "functions": profilers.functions()}
        print(PROFILE + json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
