"""Names between real processes: leases, takeovers, restarts of the name server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import broker
from broker import errors
from broker.config import config

Run = Callable[..., Any]

SERVER = """
    import broker, sys
    class Server:
        def who(self): return sys.argv[1]
    broker.serve({Server(): sys.argv[2]})
"""
# A lease that is short enough to watch it end.
NAME_SERVER = """
    import sys
    from broker import start_ns_loop
    start_ns_loop(port=int(sys.argv[1]), storage=sys.argv[2], lease_ttl=1.5)
"""


def _name_server(run: Run, port: int = 0, storage: str = "memory") -> tuple[Any, int]:
    program = run(NAME_SERVER, str(port), storage)
    port = int(program.line("NS running on localhost:").split()[0])
    return program, port


def _publish(run: Run, who: str, port: int, name: str = "example.server") -> Any:
    program = run(SERVER, who, name, environment={"BROKER_NS_PORT": str(port)})
    program.line("Broker daemon running.")
    return program


def _eventually(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_a_name_that_was_taken_over_stays_with_the_second(run_program: Run, tmp_path: Path, storage: str) -> None:
    storage = storage if storage == "memory" else f"sqlite:{tmp_path / 'names.db'}"
    name_server, port = _name_server(run_program, 0, storage)
    config.ns_port = port
    first = _publish(run_program, "first", port)
    proxy: Any = broker.Proxy("BROKERNAME:example.server", wait=60)
    assert proxy.who() == "first"
    _publish(run_program, "second", port)
    assert broker.Proxy("BROKERNAME:example.server").who() == "second"
    assert proxy.who() == "first"  # it has a connection, and that daemon still serves
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    assert proxy.who() == "second"
    name_server.send_signal(signal.SIGTERM)
    assert name_server.wait() == 0
    assert proxy.who() == "second"  # a connection needs no name server
    _name_server(run_program, port, storage)
    fresh: Any = broker.Proxy("BROKERNAME:example.server", wait=60)
    assert fresh.who() == "second"
    with broker.locate_ns(port=port) as names:
        assert list(names.list("example.")) == ["example.server"]


def test_a_name_goes_when_its_process_is_killed(run_program: Run) -> None:
    _, port = _name_server(run_program)
    server = _publish(run_program, "one", port)
    with broker.locate_ns("localhost", port) as names:
        assert "example.server" in names.list()
        server.process.kill()
        _eventually(lambda: "example.server" not in names.list())


def test_a_name_goes_when_its_process_is_stopped_and_comes_back_with_it(run_program: Run) -> None:
    _, port = _name_server(run_program)
    server = _publish(run_program, "one", port)
    with broker.locate_ns("localhost", port) as names:
        server.freeze()
        try:
            _eventually(lambda: "example.server" not in names.list())
        finally:
            server.send_signal(signal.SIGCONT)


def test_a_name_is_withdrawn_when_its_daemon_ends(run_program: Run) -> None:
    _, port = _name_server(run_program)
    server = _publish(run_program, "one", port)
    with broker.locate_ns("localhost", port) as names:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "example.server" not in names.list()


def test_running_daemons_survive_a_restart_of_a_name_server_without_memory(run_program: Run) -> None:
    name_server, port = _name_server(run_program)
    _publish(run_program, "one", port)
    name_server.process.kill()
    name_server.wait()
    _name_server(run_program, port)
    config.ns_port = port
    assert broker.Proxy("BROKERNAME:example.server", wait=60).who() == "one"


def test_objects_with_tags_stand_in_for_each_other(run_program: Run) -> None:
    _, port = _name_server(run_program)
    servers = {who: _publish(run_program, who, port, f"server.{who}") for who in ("one", "two")}
    config.ns_port = port
    with broker.locate_ns() as names:
        for who in servers:
            names.set_tags(f"server.{who}", ["printer", "floor2"])
        proxy: Any = broker.Proxy("BROKERMETA:printer,floor2", wait=60)
        first = proxy.who()
        servers[first].process.kill()
        servers[first].wait()
        _eventually(lambda: _answers(proxy) == ({"one", "two"} - {first}).pop())
        with pytest.raises(errors.NameNotFound):
            broker.Proxy("BROKERMETA:printer,floor3").who()


def _answers(proxy: Any) -> str | None:
    try:
        answer: str = proxy.who()
    except errors.CommunicationError:  # the call that met the loss
        return None
    return answer


def test_the_name_server_is_an_ordinary_object(run_program: Run) -> None:
    _, port = _name_server(run_program)
    _publish(run_program, "one", port)
    names: Any = broker.Proxy(f"BROKER:Broker.NameServer@localhost:{port}")
    assert names.count() == 2
    assert isinstance(names.lookup("example.server"), broker.URI)
    assert "example.server" in names.list()
    config.ns_port = port
    with broker.locate_ns() as ns:  # a proxy stands for its URI
        ns.register("alias", broker.Proxy("BROKERNAME:example.server"))
    assert broker.Proxy("BROKERNAME:alias").who() == "one"
    assert broker.Proxy("BROKERNAME:Broker.NameServer").count() == 3


def test_a_name_server_that_hangs_costs_no_more_than_the_timeout_of_the_call(run_program: Run) -> None:
    name_server, port = _name_server(run_program)
    config.ns_port = port
    name_server.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(errors.NamingError, match="no name server"):
            broker.Proxy("BROKERNAME:example.server", timeout=0.3).who()
        assert time.monotonic() - started < 10  # two places, each within the timeout, and what was found there
    finally:
        name_server.send_signal(signal.SIGCONT)
