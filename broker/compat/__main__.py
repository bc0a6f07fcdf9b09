"""usage: python -m broker.compat SCRIPT | -m MODULE | -c CODE [ARGUMENTS ...]

Runs a program that imports Pyro4 or Pyro5, as it is:
  python -m broker.compat my_server.py
  python -m broker.compat -m Pyro4.naming             the name server (also -m Pyro5.nameserver)
  python -m broker.compat -m Pyro4.nsc list           what it holds (also -m Pyro5.nsc)
  python -m broker.compat -m pytest tests
"""
# It is Python itself that runs it, in this very process, with the folder of our Pyro4 and Pyro5 in PYTHONPATH: so child
# processes, pytest and multiprocessing find them too.

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main() -> int | None:
    """Becomes the program; returns only for wrong usage, and where processes cannot be replaced."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__, file=sys.stdout if len(sys.argv) > 1 else sys.stderr)
        return 0 if len(sys.argv) > 1 else 2
    os.environ["PYTHONPATH"] = os.pathsep.join(_search_path(os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, *_interpreter_options(), *sys.argv[1:]]
    if os.name == "nt":  # there exec would be a new process that nobody waits for
        return subprocess.call(command)
    return os.execv(sys.executable, command)


def _search_path(before: str) -> list[str]:
    """Our packages first; and this one's place last, if it is found only because it is where we were started."""
    here = Path(__file__).resolve().parent
    found_by_chance = sys.path[0] in ("", str(Path.cwd())) and here.parents[1] == Path.cwd()
    return [str(here / "packages"), *filter(None, [before]), *([str(here.parents[1])] if found_by_chance else [])]


def _interpreter_options() -> list[str]:
    """What stood before `-m broker.compat`."""
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    return options[:-1] if options[-1:] == ["-mbroker.compat"] else options[:-2]


if __name__ == "__main__":
    sys.exit(main())
