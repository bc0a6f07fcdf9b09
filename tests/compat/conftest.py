"""Pyro4 and Pyro5 as programs have them, a daemon that loops, and a name server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from broker.compat import Pyro4, Pyro5
from broker.compat.configuration import config


def _pyro4() -> SimpleNamespace:
    return SimpleNamespace(
        package=Pyro4, name="Pyro4", Proxy=Pyro4.Proxy, Daemon=Pyro4.Daemon, URI=Pyro4.URI, config=Pyro4.config,
        expose=Pyro4.expose, behavior=Pyro4.behavior, oneway=Pyro4.oneway, callback=Pyro4.callback,
        batch=Pyro4.batch, locate_ns=Pyro4.locateNS, resolve=Pyro4.resolve, errors=Pyro4.errors,
        context=Pyro4.current_context, start_ns=Pyro4.naming.startNS, naming=Pyro4.naming,
        traceback=Pyro4.util.getPyroTraceback, hooks=Pyro4.util.SerializerBase,
    )  # fmt: skip


def _pyro5() -> SimpleNamespace:
    api = Pyro5.api
    return SimpleNamespace(
        package=Pyro5, name="Pyro5", Proxy=api.Proxy, Daemon=api.Daemon, URI=api.URI, config=api.config,
        expose=api.expose, behavior=api.behavior, oneway=api.oneway, callback=api.callback,
        batch=api.BatchProxy, locate_ns=api.locate_ns, resolve=api.resolve, errors=Pyro5.errors,
        context=api.current_context, start_ns=api.start_ns, naming=Pyro5.nameserver,
        traceback=Pyro5.errors.get_pyro_traceback, hooks=api.SerializerBase,
    )  # fmt: skip


@pytest.fixture
def both() -> tuple[SimpleNamespace, SimpleNamespace]:
    return _pyro4(), _pyro5()


@pytest.fixture
def pyro(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Pyro4 or Pyro5, by the file of the test: what is behind the names of the two is the same, as a test holds."""
    return _pyro4() if request.module.__name__.endswith(("daemons", "names", "bugs")) else _pyro5()


@pytest.fixture(autouse=True)
def own_configuration() -> Iterator[None]:
    config.reset(False)
    config.POLLTIMEOUT = 0.1
    config.BROADCAST_ADDRS = []
    yield
    config.reset(False)


Serve = Callable[..., Any]


@pytest.fixture
def looping() -> Iterator[Callable[[Any], Any]]:
    """Has a daemon loop in a thread until the end of the test; returns the daemon."""
    running: list[tuple[Any, threading.Thread]] = []

    def loop(daemon: Any) -> Any:
        thread = threading.Thread(target=daemon.requestLoop, daemon=True)
        thread.start()
        running.append((daemon, thread))
        return daemon

    yield loop
    for daemon, thread in running:
        daemon.shutdown()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def serve(pyro: SimpleNamespace, looping: Callable[[Any], Any]) -> Serve:
    """Registers an object or a class with a daemon that loops, and returns its URI."""

    def register(target: Any, object_id: str | None = None, daemon: Any = None) -> Any:
        return looping(daemon or pyro.Daemon()).register(target, object_id)

    return register


@pytest.fixture
def names(pyro: SimpleNamespace, looping: Callable[[Any], Any]) -> Any:
    """A proxy for a name server, which is also found without being told where it is."""
    uri, daemon, _ = pyro.start_ns("localhost", 0)
    looping(daemon)
    pyro.config.NS_PORT = uri.port
    return pyro.locate_ns()
