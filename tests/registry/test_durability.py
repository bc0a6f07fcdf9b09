"""kill -9 at random moments under 8 writers: nothing that was acknowledged is lost, nothing comes out of nowhere."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from broker.registry.client import NameServer

WRITERS = 8
KILLS = 6
FEWEST = 30  # changes of one writer

WRITER = """
    import json, random, select, sys, time
    from broker.registry.client import NameServer
    from broker.registry.link import NoNameServer

    port, number, fewest = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(number)
    ns = NameServer("localhost", port)
    ns.ping()
    print("ready", flush=True)
    known = {}  # what is acknowledged: name -> [uri, tags], or None where it was removed
    step = 0
    while step < fewest or not select.select([sys.stdin], [], [], 0)[0]:  # until it is told
        step += 1
        name = f"w{number}.{chance.randrange(12)}"
        uri, tags = f"BROKER:s{step}@h:1", [f"t{step}"]
        present = known.get(name)
        if present is None or chance.random() < 0.6:
            change, ask = [uri, tags], lambda: ns.register(name, uri, tags=tags)
        elif chance.random() < 0.5:
            change, ask = [present[0], tags], lambda: ns.set_tags(name, tags)
        else:
            change, ask = None, lambda: ns.remove(name)
        patience = time.monotonic() + 60
        while True:
            try:
                ask()
                break
            except NoNameServer:  # a busy machine may take longer than its patience to start one
                if time.monotonic() > patience:
                    raise
        known[name] = change
    print(json.dumps(known))
"""


class Naming:
    """A name server process that is killed and started again on the same port."""

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self.port = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-m", "broker.naming", "-p", str(self.port), "-s", self._storage]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("URI = "):
            assert process.poll() is None, "the name server did not start"
        self.port = int(line.rpartition(":")[2])
        return process

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        assert self._process.returncode == -signal.SIGKILL

    def restart(self) -> None:
        self.kill()
        self._process = self._start()


def start_writers(port: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(port)]
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen([*command, str(number), str(FEWEST)], text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    return writers


@pytest.mark.timeout(120)
def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    naming = Naming(f"sqlite:{tmp_path / 'names.db'}")
    writers: list[subprocess.Popen[str]] = []
    try:
        writers = start_writers(naming.port)
        for _ in range(KILLS):
            time.sleep(random.uniform(0.2, 0.8))  # a random moment is the point here
            naming.restart()
        known = {}
        for writer in writers:
            out, err = writer.communicate("enough", timeout=80)
            assert writer.returncode == 0, err
            known.update(json.loads(out))
        naming.restart()
        with NameServer("localhost", naming.port) as ns:
            listed = ns.list("w", with_tags=True)
    finally:
        naming.kill()
        for writer in writers:
            writer.kill()
            writer.communicate()
    acknowledged = {name: entry for name, entry in known.items() if entry is not None}
    assert {name: [str(uri), sorted(tags)] for name, (uri, tags) in listed.items()} == acknowledged
