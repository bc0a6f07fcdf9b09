"""The process of a server: `python -m benchmarks.server CONTESTANT CORE VARIANT`. It ends when its stdin does."""

from __future__ import annotations

import os
import sys
import threading

from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import READY, pin


def main(name: str, core: str, variant: str) -> None:
    pin(core)
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    CONTESTANTS[name].load().serve(variant, _ready)


def _ready(address: str) -> None:
    print(READY + address, flush=True)


def _end_with_the_runner() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
