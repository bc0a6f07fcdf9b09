"""The name server as a process, with daemons in other processes, and what happens to names when these end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import broker
from broker.errors import DaemonError, NameNotFound, NameTaken, NamingError
from broker.registry.client import NameServer
from broker.registry.server import start_ns, start_ns_loop
from broker.uri import URI

Run = Callable[..., Any]
NAMING = (None, "-m", "broker.naming", "-p")


def port_of(naming: Any) -> int:
    return URI(naming.line("URI = ")).port or 0


def end(process: Any, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Its exit code, what it printed behind its URI, and what it wrote to stderr."""
    process.send_signal(signum)
    code = process.wait()
    return code, "".join(process.output).partition("URI = ")[2].partition("\n")[2], process.errors


def refusal_of(process: Any) -> str:
    """The one line of a program that did not start."""
    assert (process.wait(), process.output, process.errors.count("\n")) == (1, [], 1)
    return str(process.errors)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class TestNaming:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_prints_as_the_tutorial_shows_and_ends_cleanly(self, run_program: Run, signum: int) -> None:
        process = run_program(*NAMING, "0", anew=True)
        port = port_of(process)
        assert process.output == [
            "Not starting broadcast server for localhost.\n",
            f"NS running on localhost:{port} (127.0.0.1)\n",
            f"URI = BROKER:Broker.NameServer@localhost:{port}\n",
        ]
        with NameServer("localhost", port) as ns:
            ns.ping()
        assert end(process, signum) == (0, "NS shut down.\n", "")

    def test_a_file_remembers_and_is_counted(self, run_program: Run, tmp_path: Path) -> None:
        storage = f"sqlite:{tmp_path / 'names.db'}"
        for number in range(3):
            process = run_program(*NAMING, "0", "-s", storage)
            port = port_of(process)
            plural = "" if number == 1 else "s"
            assert process.output[1] == f"Persistent store contains {number} existing registration{plural}.\n"
            with NameServer("localhost", port) as ns:
                ns.register(f"n{number}", "BROKER:o@h:1")
            assert end(process) == (0, "NS shut down.\n", "")

    def test_a_second_one_on_the_port_is_refused_in_one_line(self, run_program: Run) -> None:
        port = port_of(run_program(*NAMING, "0"))
        told = refusal_of(run_program(*NAMING, str(port)))
        assert told.startswith("broker-ns: ")
        assert f"{port}" in told
        assert "something else listens there" in told

    def test_a_second_one_on_the_file_is_refused_in_one_line(self, run_program: Run, tmp_path: Path) -> None:
        storage = f"sqlite:{tmp_path / 'names.db'}"
        run_program(*NAMING, "0", "-s", storage).line("URI = ")
        told = refusal_of(run_program(*NAMING, "0", "-s", storage))
        assert "another name server is using it" in told

    def test_other_machines_need_a_word(self, run_program: Run) -> None:
        told = refusal_of(run_program(*NAMING, "0", "-n", "0.0.0.0"))
        assert "--insecure" in told or "insecure=True" in told
        allowed = run_program(*NAMING, "0", "-n", "0.0.0.0", "--insecure")
        assert "0.0.0.0" not in allowed.line("URI = ")
        assert re.fullmatch(r"NS running on \S+:\d+ \(\S+\)\n", allowed.output[-2])
        assert end(allowed)[0] == 0

    @pytest.mark.parametrize("arguments", [["-s", "dbm:x"], ["-p", "x"], ["surplus"]])
    def test_wrong_usage_is_status_2(self, run_program: Run, arguments: list[str]) -> None:
        process = run_program(None, "-m", "broker.naming", *arguments)
        assert process.wait() == 2
        assert "usage: broker-ns" in process.errors


class TestInProcess:
    def test_starts_and_ends(self) -> None:
        with start_ns(port=0) as server:
            assert server.address == ("localhost", server.uri.port)
            with broker.locate_ns(*server.address) as ns:
                assert ns.list() == {"Broker.NameServer": server.uri}
        with pytest.raises(NamingError):
            broker.locate_ns(*server.address)
        server.shutdown()

    def test_a_port_in_use_lets_go_of_the_file(self, tmp_path: Path) -> None:
        storage = f"sqlite:{tmp_path / 'names.db'}"
        with start_ns(port=0) as server, pytest.raises(DaemonError):
            start_ns(port=server.address[1], storage=storage)
        start_ns(port=0, storage=storage).close()

    def test_a_loop_that_cannot_start_leaves_no_trace(self, capsys: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with start_ns(port=0) as other, pytest.raises(DaemonError):
            start_ns_loop(port=other.address[1])
        assert signal.getsignal(signal.SIGTERM) is before
        assert capsys.readouterr().out == ""

    def test_is_an_ordinary_object_too(self) -> None:
        with start_ns(port=0) as server, broker.Proxy(server.uri) as names:
            names.register("a", "BROKER:o@h:1", tags=["x"])
            assert names.lookup("a") == URI("BROKER:o@h:1")
            assert list(names.list()) == ["Broker.NameServer", "a"]
            assert list(names.list(tags_any=["x"])) == ["a"]
            assert names.list(tags_any=[]) == {}
            names.set_tags("a", ["y"])
            assert names.list(tags_all=["x"]) == {}
            assert names.count() == 2
            assert names.ping() is None
            with pytest.raises(NameNotFound):
                names.lookup("b")
            with pytest.raises(NameTaken):
                names.register("Broker.NameServer", "BROKER:o@h:1")
            with pytest.raises(ValueError, match="one of"):
                names.remove()
            assert names.remove("Broker.NameServer") == 0
            assert names.remove("a") == 1


SERVER = """
    import sys, broker
    class Thing:
        def who(self):
            return sys.argv[2]
    broker.config.ns_port = int(sys.argv[1])
    broker.serve({Thing(): "thing"})
"""


@pytest.fixture
def serve_thing(run_program: Run) -> Callable[[int, str], Any]:
    def serve(port: int, who: str) -> Any:
        process = run_program(SERVER, str(port), who)
        process.line("Broker daemon running")
        return process

    return serve


Serve = Callable[[int, str], Any]


class TestDaemons:
    def test_a_name_ends_with_its_process_by_any_cause(self, serve_thing: Serve) -> None:
        with start_ns(port=0, lease_ttl=1.5) as server, broker.locate_ns(*server.address) as ns:
            for signum, at_once in ((signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGKILL, False)):
                process = serve_thing(server.address[1], "one")
                assert "thing" in ns.list()
                end(process, signum)
                if at_once:
                    assert "thing" not in ns.list()
                until(lambda: "thing" not in ns.list())

    def test_a_stopped_process_loses_its_name_and_has_it_again(self, serve_thing: Serve) -> None:
        with start_ns(port=0, lease_ttl=1.5) as server, broker.locate_ns(*server.address) as ns:
            process = serve_thing(server.address[1], "one")
            uri = ns.lookup("thing")
            process.freeze()
            until(lambda: "thing" not in ns.list())
            process.send_signal(signal.SIGCONT)
            until(lambda: ns.list("thing") == {"thing": uri})

    def test_a_takeover_survives_the_end_of_the_first_and_a_restart(self, run_program: Run, serve_thing: Serve) -> None:
        naming = run_program(*NAMING, "0")
        port = port_of(naming)
        name = f"BROKERNAME:thing@localhost:{port}"
        first = serve_thing(port, "first")
        second = serve_thing(port, "second")
        assert broker.Proxy(name).who() == "second"
        end(first)
        assert broker.Proxy(name).who() == "second"
        end(naming, signal.SIGKILL)
        run_program(*NAMING, str(port)).line("URI = ")
        assert broker.Proxy(name).who() == "second"
        assert second.process.poll() is None

    def test_published_objects_leave_with_their_daemon(self) -> None:
        class Thing:
            def who(self) -> str:
                return "me"

        with start_ns(port=0) as server:
            broker.config.ns_port = server.address[1]
            with broker.locate_ns() as ns:
                with broker.Daemon() as daemon:
                    thing = Thing()
                    uri = daemon.publish(thing, "thing", tags=["x"])
                    ns.register("alias", thing)
                    assert ns.list(prefix="") == {"Broker.NameServer": server.uri, "alias": uri, "thing": uri}
                    assert broker.Proxy("BROKERMETA:x").who() == "me"
                    daemon.unregister(thing)
                    assert ns.count() == 1
                    daemon.publish(thing, "thing")
                assert ns.count() == 1


def test_importing_and_using_it_leaves_the_process_alone() -> None:
    program = """
        import os, signal, logging, warnings
        def state():
            handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
            return dict(os.environ), handlers, list(logging.root.handlers), list(warnings.filters)
        before = state()
        from broker.registry.server import start_ns
        import broker
        with start_ns(port=0) as server, broker.locate_ns(*server.address) as ns:
            ns.register("a", "BROKER:o@h:1")
        assert state() == before
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
