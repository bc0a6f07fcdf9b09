"""The echo server as an object."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import broker


def test_it_is_an_object_for_programs_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    with broker.Daemon() as daemon:
        proxy: Any = broker.Proxy(daemon.register(broker.EchoServer(on_shutdown=ended.set)))
        proxy.echo("not printed")
        proxy.verbose = True
        assert proxy.verbose is True
        proxy.echo("printed")
        proxy.shutdown()
    assert ended.is_set()
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" - ")[2] for line in printed] == ["echo: 'printed'", "shutting down"]
