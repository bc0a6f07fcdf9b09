"""Fuzzes for as long as it is told, guided by what the code does with each input: `python -m tests.fuzz --seconds 600`.

Every target runs in a process of its own, for its share of the time. Inputs that led somewhere new are kept in build/
and are where the next run begins. An input that does harm ends the run; it is kept as well, and belongs into the corpus
once it does none any more.
"""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.guard import CORPUS, MOST_SECONDS, Guard

ROOT = Path(__file__).parent.parent.parent
WORK = ROOT / "build" / "fuzz"
MOST_MIB = 1024
LONGEST = 8192
"""Bytes of an input."""
HANGS_SECONDS = int(MOST_SECONDS) * 5
QUICK_SECONDS = 0.02
"""For regular expressions, of which many would take for ever."""
NAMES = ("json", "uri", "frames", "inbox", "connection", "answers", "proxy", "invoke", "typed", "registry")


def run(target: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["broker"], enable_loader_override=False):
        from broker.registry import store
        from tests.fuzz.targets import TARGETS
    store._REGEX_SECONDS = QUICK_SECONDS
    assert tuple(TARGETS) == NAMES
    take, guard = TARGETS[target], Guard()
    logging.getLogger("broker").propagate = False
    warm_up(target)

    def guarded(data: bytes) -> None:
        with guard.watching(len(data)):
            take(data)

    found = WORK / target
    found.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds, "timeout": HANGS_SECONDS, "rss_limit_mb": MOST_MIB, "max_len": LONGEST,
        "artifact_prefix": f"{found}-", "print_final_stats": 1, "verbosity": 1,
    }  # fmt: skip
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(found), str(CORPUS / target)], guarded)
    atheris.Fuzz()


def warm_up(target: str) -> None:
    """What is loaded or made for the first input of its kind is there before anybody watches."""
    from tests.fuzz.targets import TARGETS

    for seed in sorted((CORPUS / target).iterdir()):
        TARGETS[target](seed.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="in all (default: 600)")
    parser.add_argument("--alone", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)} (default: all)")
    given = parser.parse_args()
    if given.alone:
        run(given.alone, given.seconds)
    unknown = set(given.targets) - set(NAMES)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))} (there are: {', '.join(NAMES)})")
    targets = given.targets or NAMES
    share = max(1, given.seconds // len(targets))
    found = sum(_run_apart(target, share) for target in targets)
    return 1 if found else 0


def _run_apart(target: str, seconds: int) -> bool:
    """Whether it found something."""
    command = [sys.executable, "-m", "tests.fuzz", "--alone", target, "--seconds", str(seconds)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    inputs = re.search(r"number_of_executed_units: *(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+)", done.stdout)
    if done.returncode == 0 and inputs is not None:
        print(
            f"{target:<12} {int(inputs[1]):>9} inputs in {time.monotonic() - began:4.0f} s, "
            f"{covered[-1] if covered else '?':>5} places in the code reached; none did harm.",
            flush=True,
        )
        return False
    print(f"{done.stdout[-6000:]}\n{target}: ended with {done.returncode}; see build/fuzz/{target}-*", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
