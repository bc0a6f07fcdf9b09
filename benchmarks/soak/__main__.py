"""Puts processes to mixed work for a long time, while connections, names, references and daemons come and go.

Now and then all of them rest, and what each of them uses is written down. It fails if memory, threads or descriptors of
one have grown between the third and the last quarter of the time, or if a reference, a future, a session, a stream or a
call is left while they rest. It holds the calls to the same ledger as `benchmarks.stress`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.chaos.setting import Setting, at_rest
from benchmarks.stress.ledger import compare, executed_calls, verdict
from benchmarks.stress.processes import Failed, Usage

PATIENCE = 30.0
"""Seconds that a call may take."""
MOST = Usage(memory=6 << 10, threads=2, descriptors=3)
"""What a process may use more in the last quarter than in the third: allocators and pools of threads breathe."""
SHORT_SECONDS = 600.0
SHORT_MOST = Usage(memory=64 << 10, threads=8, descriptors=6)
"""The same for a run that is shorter than that: what warms up has not come to its end."""
SAMPLES = 60
SHORTEST = 3.0
"""Seconds of work between two samples; a run that is shorter than so many has fewer of them."""
SHOWN = 12
OTHER = "other"


class Soak:
    """One run."""

    def __init__(self, seconds: float, pause: float, seed: int, folder: Path, processes: ExitStack) -> None:
        self._seconds = seconds
        self._interval = max(SHORTEST, seconds / SAMPLES)
        self._draw = random.Random(seed)
        self._setting = setting = Setting(folder, processes, seed=seed, patience=PATIENCE, pause=pause)
        self._other = setting.start_daemon(0, OTHER)
        self._clients = {
            "client": setting.start_client(4, 10),
            "churn": setting.start_client(3, 2, module="benchmarks.soak.churn"),
            "roaming": setting.start_client(2, 5, OTHER),
        }
        self._registrar = setting.start_registrar("soak.kept")
        self.samples: list[dict[str, Usage]] = []
        self.left: list[str] = []
        self.restarts = self.killed = 0

    def run(self) -> None:
        began = time.monotonic()
        while (left := began + self._seconds - time.monotonic()) > 0:
            self._work(min(self._interval, left))
            self._sample(time.monotonic() - began)

    def _work(self, seconds: float) -> None:
        """Within it a client is killed, and a daemon restarted."""
        end = time.monotonic() + seconds
        victim = self._setting.start_client(2, 5)
        time.sleep(seconds * self._draw.random() / 3)
        victim.kill()
        self.killed += 1
        self._restart()
        time.sleep(max(0.0, end - time.monotonic()))

    def _restart(self) -> None:
        roaming = self._clients["roaming"]
        roaming.tell("down")
        self._other.end()
        self._other = self._setting.start_daemon(0, OTHER)
        roaming.tell("up")
        self.restarts += 1

    def _sample(self, passed: float) -> None:
        """What each uses; the daemon that is restarted is another one each time."""
        lasting = {"daemon": self._setting.daemon, "name server": self._setting.ns, "registrar": self._registrar}
        usage, left = at_rest(self._clients, lasting)
        self.left += [f"after {passed:.0f} s: {what}" for what in left]
        self.samples.append(usage)
        self._registrar.tell("check")
        if len(self.samples) == 1:
            print(f"{'':8}" + "".join(f"{name:>16}" for name in usage), flush=True)
        if len(self.samples) % max(1, int(self._seconds / self._interval / SHOWN)) == 0 or passed > self._seconds:
            print(f"{passed:6.0f} s" + "".join(f"{each.short():>16}" for each in usage.values()), flush=True)

    def end(self) -> None:
        for client in self._clients.values():
            client.tell("rest")  # each looks at what is left at the daemon, where the others must have ended
        for client in self._clients.values():
            client.say("end")
            client.line("report")
            client.check_ended()
        for server in (self._setting.daemon, self._other, self._setting.ns):
            server.end()

    def wrong(self) -> Iterator[str]:
        """What does not hold."""
        yield from self.left
        yield from compare(self._setting.folder, self._setting.journal)
        half, quarter = len(self.samples) // 2, len(self.samples) // 4
        before, after = self.samples[half : half + quarter + 1], self.samples[-quarter - 1 :]
        for name in self.samples[-1]:
            then, now = _middle([each[name] for each in before]), _middle([each[name] for each in after])
            if now.grown_beyond(then, SHORT_MOST if self._seconds < SHORT_SECONDS else MOST):
                yield f"the {name} grows: {then} in the third quarter of the time, and {now} in the last"


def _middle(usage: list[Usage]) -> Usage:
    fields = zip(*((each.memory, each.threads, each.descriptors) for each in usage), strict=True)
    return Usage(*(int(median(values)) for values in fields))


def run(seconds: float, pause: float, seed: int) -> list[str]:
    """What is wrong; prints what was seen."""
    print(
        f"{seconds:g} s of mixed work, drawn by SEED={seed}; at rest: MiB of memory, threads, descriptors.",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        soak = Soak(seconds, pause, seed, Path(folder), processes)
        try:
            soak.run()
            soak.end()
        except Failed as failed:
            return [*soak.left, *compare(Path(folder), Path(folder) / "journal"), str(failed)]
        print(
            f"{executed_calls(Path(folder) / 'journal')} calls were executed; {soak.restarts} times a daemon was "
            f"restarted, and {soak.killed} times a client killed."
        )
        return list(soak.wrong())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of everybody, at most, between two things")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="what was drawn before is drawn again")
    given = parser.parse_args()
    wrong = run(given.minutes * 60, given.pause, given.seed)
    return verdict(wrong, "Nothing grew, and nothing was left over.")


if __name__ == "__main__":
    sys.exit(main())
