"""Runs the stock market of phase 3 for some seconds and watches it: `python minute.py [SECONDS]`.

Two markets, an aggregator and five viewers in eight processes, and a name server. One viewer is killed on the way. No
other process may end, the viewers that are left must go on, and neither memory nor threads may grow after a warm-up.
Exits with 0 if all of that holds. Needs Linux's /proc, or `ps` as macOS has it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "phase3"
MARKETS = {"Amsterdam": ("TULIP=112.20", "CANAL=82.50"), "Kyoto": ("MAPLE=945.00", "KOTO=64.75")}
VIEWERS = (("TULIP",), ("MAPLE",), ("TULIP", "MAPLE"), ("CANAL", "KOTO"), ("TULIP", "CANAL", "MAPLE", "KOTO"))
VICTIM = "viewer 3"
PATIENCE = 30  # seconds for a process to start or to end
# What may still be added after the warm-up: Python's allocator and gRPC's pool of threads breathe a little.
MOST_MEMORY = 4 << 10  # KiB
MOST_THREADS = 2
SILENCE = 4  # seconds without a quote after which a viewer counts as stuck


class Failed(Exception):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Usage:
    """What a process uses."""

    memory: int  # KiB that are resident
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        status = Path(f"/proc/{pid}/status")
        if not status.exists():
            memory = subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)], text=True)
            threads = subprocess.check_output(["ps", "-M", "-p", str(pid)], text=True)
            return cls(int(memory), len(threads.splitlines()) - 1)
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return cls(int(fields["VmRSS"].split()[0]), int(fields["Threads"]))


@dataclass
class Part:
    """One process of the market."""

    name: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    spoke: float = 0.0  # when it last printed something, by time.monotonic()
    usage: list[Usage] = field(default_factory=list)  # once a second

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._silent = False
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, text: str) -> str:
        """Waits for a line that holds the text."""
        with self._news:
            self._news.wait_for(lambda: self._find(text) or self._silent, PATIENCE)
            found = self._find(text)
        if found is None:
            raise Failed(f"{self.name} did not print {text!r}, but: {self.lines}")
        return found

    def end(self) -> int:
        """Asks it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(PATIENCE)
            self.process.kill()
        return self.process.wait()

    def _find(self, text: str) -> str | None:
        return next((line for line in self.lines if text in line), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line.rstrip())
                    self.spoke = time.monotonic()
                    self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()


class StockMarket:
    """All the processes."""

    def __init__(self, ending: ExitStack) -> None:
        self._ending = ending
        self._environment = dict(os.environ)
        self.parts: dict[str, Part] = {}
        self.killed: Part | None = None

    def open(self) -> None:
        """Starts everything, and returns when every viewer has seen a quote."""
        uri = self._start("name server", "-m", "broker.naming", "-p", "0").wait_for("URI = ")
        self._environment |= {"BROKER_NS_HOST": "localhost", "BROKER_NS_PORT": uri.rpartition(":")[2]}
        self._start("aggregator", str(PROGRAMS / "aggregator.py")).wait_for("daemon running")
        for name, symbols in MARKETS.items():
            self._start(name, str(PROGRAMS / "market.py"), name, *symbols).wait_for("trades")
        for number, wanted in enumerate(VIEWERS, 1):
            self._start(f"viewer {number}", str(PROGRAMS / "viewer.py"), *wanted)
        for viewer in self.viewers:
            viewer.wait_for(".")  # a price

    @property
    def viewers(self) -> list[Part]:
        """Those that live."""
        return [part for part in self.living if part.name.startswith("viewer")]

    @property
    def living(self) -> list[Part]:
        return [part for part in self.parts.values() if part is not self.killed]

    def kill(self, name: str) -> None:
        self.killed = self.parts[name]
        self.killed.process.kill()
        self.killed.process.wait()

    def check(self) -> None:
        """Everybody lives, and every viewer has seen a quote lately."""
        for part in self.living:
            if part.process.poll() is not None:
                raise Failed(f"{part.name} ended with {part.process.returncode}: {part.lines[-20:]}")
        for viewer in self.viewers:
            if time.monotonic() - viewer.spoke > SILENCE:
                raise Failed(f"{viewer.name} has not seen a quote for {SILENCE} seconds")

    def _start(self, name: str, *command: str) -> Part:
        process = subprocess.Popen(
            [sys.executable, "-u", *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for this program, which then ends the others in order
        )
        part = self.parts[name] = Part(name, process)
        self._ending.callback(part.end)
        return part


def watch(market: StockMarket, seconds: float) -> None:
    """Looks at the market once a second; kills a viewer when half the time is over."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        time.sleep(min(1.0, seconds - passed))
        market.check()
        for part in market.living:
            part.usage.append(Usage.of(part.process.pid))
        if market.killed is None and passed >= seconds / 2:
            market.kill(VICTIM)
            print(f"{VICTIM} was killed after {passed:.0f} seconds.", flush=True)


def judge(market: StockMarket) -> None:
    """Prints what every process used at most in the first third of the time, and at least in the last third.

    Raises Failed if one has grown: what leaks is still there at the end, and what is just busy is not.
    """
    print(f"{'process':12} {'quotes':>7} {'memory (KiB)':>18} {'threads':>10}")
    grown = []
    for part in market.living:
        third = max(1, len(part.usage) // 3)
        first, last = part.usage[:third], part.usage[-third:]
        memory = max(usage.memory for usage in first), min(usage.memory for usage in last)
        threads = max(usage.threads for usage in first), min(usage.threads for usage in last)
        quotes = len(part.lines) if part in market.viewers else ""
        print(f"{part.name:12} {quotes:>7} {'{} → {}'.format(*memory):>18} {'{} → {}'.format(*threads):>10}")
        if memory[1] > memory[0] + MOST_MEMORY or threads[1] > threads[0] + MOST_THREADS:
            grown.append(part.name)
    if grown:
        raise Failed(f"grown after the warm-up: {', '.join(grown)}")


def run(seconds: float) -> None:
    """Runs the market and watches it. Raises Failed."""
    with ExitStack() as ending:
        market = StockMarket(ending)
        market.open()
        print(f"{len(market.parts) - 1} processes and a name server run for {seconds:g} seconds.", flush=True)
        watch(market, seconds)
        judge(market)
        for part in reversed(market.living):
            if (code := part.end()) != 0:
                raise Failed(f"{part.name} ended with {code} when it was asked to end: {part.lines[-20:]}")
    print("No process was lost, none has grown, and all ended well.")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    except Failed as failure:
        print(f"Failed: {failure}")
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything that was started has ended.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
