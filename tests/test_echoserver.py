"""The echo server as a process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

import broker

Run = Callable[..., Any]


def test_it_echoes_fails_and_ends_on_demand(run_program: Run) -> None:
    server = run_program(None, "-m", "broker.echoserver", "-v")
    proxy: Any = broker.Proxy(server.line("echo uri:"))
    assert proxy.echo([1, "two"]) == [1, "two"]
    assert proxy.slow(0.01) == proxy.slow_async(0.01) == "Finally, an answer!"
    assert list(proxy.generator()) == ["one", "two", "three"]
    assert (str(proxy.nan()), proxy.inf()) == ("nan", float("inf"))
    assert proxy.now().tzinfo is not None
    assert proxy.oneway_echo("x") is proxy.oneway_slow(0.01) is None
    with pytest.raises(ValueError, match="generated error"):
        proxy.error()
    with pytest.raises(ValueError, match="just so"):
        proxy.error("just so")
    proxy.shutdown()
    server.line("Echo server shut down.")
    assert server.wait() == 0
    assert any(line.endswith(" - echo: [1, 'two']\n") for line in server.output)


def test_a_signal_ends_it(run_program: Run) -> None:
    server = run_program(None, "-m", "broker.echoserver")
    server.line("Echo server running")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    server.line("Echo server shut down.")


def test_what_it_cannot_do_is_one_line(run_program: Run) -> None:
    with broker.Daemon() as daemon:
        server = run_program(None, "-m", "broker.echoserver", "-p", str(daemon.address[1]))
        assert server.wait() == 1
        assert server.errors.count("\n") == 1
        assert "something else listens" in server.errors
    server = run_program(None, "-m", "broker.echoserver", "-n", "0.0.0.0")
    assert server.wait() == 1
    assert "--insecure" in server.errors
    assert run_program(None, "-m", "broker.echoserver", "--colour").wait() == 2


def test_it_listens_on_a_unix_socket(run_program: Run, tmp_path: Any) -> None:
    path = tmp_path / "echo.sock"
    server = run_program(None, "-m", "broker.echoserver", "-u", str(path))
    uri = server.line("echo uri:")
    assert uri == f"BROKER:test.echoserver@./u:{path}"
    assert path.stat().st_mode & 0o777 == 0o600
    proxy: Any = broker.Proxy(uri)
    assert proxy.echo("x") == "x"
    with pytest.raises(broker.errors.DaemonError, match="another daemon listens there"):
        broker.Daemon(unix_socket=str(path))
    server.process.kill()
    server.wait()
    with broker.Daemon(unix_socket=str(path)) as daemon:  # a stale socket is no obstacle
        assert daemon.address == (f"./u:{path}", 0)
    assert not path.exists()
