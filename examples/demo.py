"""`make demo`: a name server, a warehouse and two visits, each in a process of its own, and what each of them says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAREHOUSE = Path(__file__).parent / "warehouse" / "phase3"
PATIENCE = 30  # seconds for a process to start or to end
COLOURS = {"name server": 36, "warehouse": 33, "visit": 32, "names": 35}
WIDTH = max(map(len, COLOURS))


def say(who: str, line: str) -> None:
    """Prints a line of one of the processes, labelled, in the colour of that process on a terminal."""
    label = f"{who:>{WIDTH}} |"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{COLOURS[who]}m{label}\033[0m"
    print(f"{label} {line}\n", end="", flush=True)  # in one piece: several threads print


def tell(text: str) -> None:
    """Prints what happens next."""
    bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold[0]}{text}{bold[1]}\n", end="", flush=True)


class Part:
    """A process of the demonstration, whose lines are shown as they come."""

    def __init__(self, who: str, *command: str, environment: dict[str, str]) -> None:
        self.who = who
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for this program, which then ends its parts in order
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until the process has printed a line in which the pattern is found."""
        with self._news:
            self._news.wait_for(lambda: self._find(pattern) or self._over, PATIENCE)
            found = self._find(pattern)
        if found is None:
            raise RuntimeError(f"the {self.who} did not get as far as {pattern!r}")
        return found

    def finish(self) -> None:
        """Waits until the process has ended by itself, and well."""
        if self.process.wait(PATIENCE) != 0:
            raise RuntimeError(f"the {self.who} ended with {self.process.returncode}")
        self._reader.join()

    def end(self) -> None:
        """Asks the process to end; it has a moment to do so."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def _find(self, pattern: str) -> re.Match[str] | None:
        return next((found for line in self._lines if (found := re.search(pattern, line))), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                say(self.who, line.rstrip())
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()


@contextmanager
def running(who: str, *command: str, environment: dict[str, str]) -> Iterator[Part]:
    """A process that is ended when the block is left, however it is left."""
    part = Part(who, *command, environment=environment)
    try:
        yield part
    finally:
        part.end()


def run(who: str, *command: str, environment: dict[str, str]) -> None:
    """Runs a process to its end."""
    with running(who, *command, environment=environment) as part:
        part.finish()


def demonstrate() -> None:
    tell("A name server starts: the phone book of objects. (Here on any free port; 9090 otherwise.)")
    with running("name server", "-m", "broker.naming", "-p", "0", environment={}) as name_server:
        port = name_server.wait_for(r"^URI = .*:(\d+)$")[1]
        found_at = {"BROKER_NS_HOST": "localhost", "BROKER_NS_PORT": port}

        tell("A warehouse starts, a plain Python object in another process, and enters its name.")
        with running("warehouse", str(WAREHOUSE / "warehouse.py"), environment=found_at) as warehouse:
            warehouse.wait_for("daemon running")
            tell("Anybody can ask which names there are.")
            run("names", "-m", "broker.nsc", "list", environment=found_at)
            tell("Janet and Henry visit, from a third process. What the warehouse prints, it prints in its own.")
            run("visit", str(WAREHOUSE / "visit.py"), environment=found_at)
            tell("They come again, in a new process. The warehouse has not forgotten that the couch is gone.")
            run("visit", str(WAREHOUSE / "visit.py"), environment=found_at)
            tell("The warehouse closes …")
        tell("… and its name is gone with it.")
        run("names", "-m", "broker.nsc", "list", environment=found_at)
        tell("The name server ends.")
    tell("That was the demonstration. Its programs are in examples/warehouse/phase3, the tutorial is docs/tutorial.md.")


def main() -> int:
    # SIGTERM, like Ctrl-C, leaves by the way on which the parts are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        demonstrate()
    except KeyboardInterrupt:
        tell("Interrupted; everything that was started has ended.")
        return 130
    except RuntimeError as error:
        tell(f"The demonstration failed: {error}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
