"""Proxies as Pyro programs have them."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest


def thing(pyro: Any) -> Any:
    class Thing:
        def __init__(self) -> None:
            self.items = list("qwerty")
            self._value = 42

        @pyro.expose
        def echo(self, value: Any) -> Any:
            return value

        @pyro.expose
        @property
        def value(self) -> int:
            return self._value

        @value.setter
        def value(self, value: int) -> None:
            self._value = value

        @pyro.expose
        @property
        def fixed(self) -> str:
            return "fixed"

        @pyro.expose
        def __len__(self) -> int:
            return len(self.items)

        @pyro.expose
        def __getitem__(self, index: int) -> str:
            return self.items[index]

        @pyro.expose
        def __setitem__(self, index: int, item: str) -> None:
            self.items[index] = item

        @pyro.expose
        def __delitem__(self, index: int) -> None:
            del self.items[index]

        @pyro.expose
        def __contains__(self, item: str) -> bool:
            return item in self.items

        @pyro.expose
        def __dunder__(self) -> str:
            return "dunder"

        @pyro.expose
        @pyro.oneway
        def later(self) -> None:
            pass

        def hidden(self) -> None:
            pass

        secret = 1

    return Thing()


def test_pyro4_and_pyro5_are_the_same_by_other_names(both: Any) -> None:
    four, five = map(vars, both)
    different = {name for name in four if four[name] is not five[name]}
    assert different == {"package", "name", "naming", "errors", "batch"}
    for package, other in ((four["errors"], five["errors"]), (four["naming"], five["naming"])):
        shared = {name for name in vars(package) if not name.startswith("_")} & set(vars(other))
        assert len(shared) >= 5
        assert all(getattr(package, name) is getattr(other, name) for name in shared)


def test_metadata_comes_with_the_connection(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(thing(pyro)))
    assert (proxy._pyroMethods, proxy._pyroAttrs, proxy._pyroOneway) == (set(), set(), set())
    assert proxy._pyroConnection is None
    assert "echo" not in dir(proxy)
    assert proxy._pyroBind() is True
    assert proxy._pyroBind() is False
    assert proxy._pyroAttrs == {"value", "fixed"}
    assert proxy._pyroOneway == {"later"}
    assert {"echo", "later", "__len__", "__dunder__"} <= proxy._pyroMethods
    assert "hidden" not in proxy._pyroMethods
    assert "echo" in dir(proxy)
    assert proxy.__dunder__() == "dunder"
    proxy._pyroAttrs = None
    proxy._pyroGetMetadata()
    assert proxy._pyroAttrs == {"value", "fixed"}
    proxy._pyroGetMetadata(known_metadata={"methods": {"x"}, "attrs": set(), "oneway": set()})
    assert proxy._pyroMethods == {"x"}


def test_attributes_and_their_messages(pyro: Any, serve: Any) -> None:
    with pyro.Proxy(serve(thing(pyro), "o")) as proxy:
        assert proxy.value == 42
        proxy.value = 43
        assert proxy.value == 43
        assert hasattr(proxy, "echo")
        assert not hasattr(proxy, "hidden")
        for name in ("hidden", "secret", "_value", "nothing"):
            with pytest.raises(AttributeError) as raised:
                getattr(proxy, name)
            assert str(raised.value) == f"remote object '{proxy._pyroUri}' has no exposed attribute or method '{name}'"
        with pytest.raises(AttributeError) as raised:
            proxy.secret = 2
        assert str(raised.value) == f"remote object '{proxy._pyroUri}' has no exposed attribute 'secret'"
        with pytest.raises(AttributeError, match="attempt to access unexposed or unknown remote attribute 'fixed'"):
            proxy.fixed = "other"
        with pytest.raises(AttributeError):
            proxy.echo.dotted(1)


def test_operators(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(thing(pyro)))
    assert len(proxy) == 6
    assert bool(proxy) is True
    assert proxy[0] == "q"
    proxy[0] = "Q"
    del proxy[5]
    assert list(proxy) == list("Qwert")
    assert "w" in proxy
    assert proxy.__contains__("w")
    with pytest.raises(IndexError):
        proxy[9]
    with pytest.raises(TypeError):
        proxy()


def test_operators_that_are_not_there(pyro: Any, serve: Any) -> None:
    class Plain:
        @pyro.expose
        def echo(self, value: Any) -> Any:
            return value

    proxy = pyro.Proxy(serve(Plain()))
    for attempt in (lambda: len(proxy), lambda: proxy[0]):
        with pytest.raises(AttributeError, match="has no exposed attribute or method '__"):
            attempt()


def test_copies_pickles_equality_and_hash(pyro: Any, serve: Any) -> None:
    uri = serve(thing(pyro))
    proxy = pyro.Proxy(uri)
    proxy._pyroTimeout, proxy._pyroMaxRetries, proxy._pyroHandshake, proxy._pyroSerializer = 5, 2, "hi", "json"
    proxy.echo(1)
    twin = copy.copy(proxy)
    assert twin == proxy
    assert (twin._pyroTimeout, twin._pyroMaxRetries, twin._pyroHandshake) == (5, 2, "hi")
    assert (twin._pyroConnection, twin._pyroSeq) == (None, 0)
    assert twin._pyroMethods == proxy._pyroMethods
    pyro.config.COMMTIMEOUT = 7
    for again in (pickle.loads(pickle.dumps(proxy)), copy.deepcopy(proxy)):
        assert again == proxy
        assert again._pyroHandshake == "hi"
        assert again.echo((1, 2)) == (1, 2)
    assert pickle.loads(pickle.dumps(proxy))._pyroTimeout == 7
    assert {proxy: "x"}[pyro.Proxy(uri)] == "x"
    assert proxy != pyro.Proxy("PYRO:other@localhost:1")
    assert proxy != 42


def test_subclasses_stay_what_they_are(pyro: Any, serve: Any) -> None:
    class Counting(pyro.Proxy):  # type: ignore[misc]
        def __init__(self, uri: Any) -> None:
            super().__init__(uri)
            self._pyroCalls = 0

        def _pyroInvoke(self, methodname: str, vargs: Any, kwargs: Any, flags: int = 0, objectId: Any = None) -> Any:
            self._pyroCalls += 1
            return super()._pyroInvoke(methodname, vargs, kwargs, flags, objectId)

    proxy = Counting(serve(thing(pyro)))
    assert proxy.echo(3) == 3
    assert proxy.value == 42
    assert proxy._pyroCalls == 2
    assert type(copy.copy(proxy)) is Counting


def test_reprs(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(thing(pyro)))
    assert f"Proxy at 0x{id(proxy):x}; not connected; for {proxy._pyroUri}" in repr(proxy)
    proxy._pyroBind()
    assert f"; connected IPv4; for {proxy._pyroUri}" in repr(proxy)
    assert str(proxy) == repr(proxy)


def test_release_and_use_again(pyro: Any, serve: Any) -> None:
    with pyro.Proxy(serve(thing(pyro))) as proxy:
        assert not proxy._pyroConnection
        assert proxy.echo(1) == 1
        assert proxy._pyroConnection
    assert not proxy._pyroConnection
    proxy._pyroRelease()
    assert proxy.echo(2) == 2
    proxy._pyroReconnect(tries=1)
    assert proxy._pyroConnection
    proxy._pyroRelease()


def test_threads_share_a_proxy_and_may_claim_it(pyro: Any, serve: Any) -> None:
    proxy, results = pyro.Proxy(serve(thing(pyro))), []

    def use(number: int) -> None:
        proxy._pyroClaimOwnership()
        results.append(proxy.echo(number))
        proxy._pyroRelease()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == list(range(8))


def test_timeouts(pyro: Any, serve: Any) -> None:
    waiting = threading.Event()

    class Slow:
        @pyro.expose
        def wait(self) -> bool:
            return waiting.wait(20)

        @pyro.expose
        @property
        def slow(self) -> bool:
            return waiting.wait(20)

        @pyro.expose
        def ping(self) -> str:
            return "pong"

    proxy = pyro.Proxy(serve(Slow()))
    assert proxy._pyroTimeout == 0.0
    proxy._pyroTimeout = 0.2
    for slow in (proxy.wait, lambda: proxy.slow):
        with pytest.raises(pyro.errors.TimeoutError) as raised:
            slow()
        assert str(raised.value) == "receiving: timeout"
        assert isinstance(raised.value, pyro.errors.CommunicationError)
    assert proxy.ping() == "pong"
    waiting.set()
    proxy._pyroTimeout = None
    assert proxy.wait() is True


def test_nobody_there(pyro: Any) -> None:
    with pytest.raises(pyro.errors.CommunicationError, match=r"cannot connect to \('localhost', 1\)"):
        pyro.Proxy("PYRO:obj@localhost:1").ping()
    proxy = pyro.Proxy("PYRO:obj@localhost:1")
    with pytest.raises(pyro.errors.ConnectionClosedError, match="failed to reconnect"):
        proxy._pyroReconnect(tries=1)


def test_objects_that_are_not_there_or_have_nothing(pyro: Any, serve: Any) -> None:
    class Empty:
        def hidden(self) -> None:
            pass

    uri = serve(Empty())
    with pytest.raises(
        pyro.errors.PyroError, match=r"doesn't expose any methods or attributes\. Did you forget setting"
    ):
        pyro.Proxy(uri).hidden()
    uri.object = "nothing"
    with pytest.raises(pyro.errors.CommunicationError, match="rejected: unknown object"):
        pyro.Proxy(uri).ping()


def test_what_rests_on_sockets_and_keys_says_what_to_use_instead(pyro: Any) -> None:
    with pytest.raises(NotImplementedError, match="connects by itself"):
        pyro.Proxy("PYRO:o@localhost:1", connected_socket=object())
    with pytest.raises(NotImplementedError, match="unixsocket"):
        pyro.Daemon(connected_socket=object())
    with pytest.raises(NotImplementedError, match="TLS"):
        pyro.Proxy("PYRO:o@localhost:1")._pyroHmacKey = b"key"
    with pytest.raises(NotImplementedError, match="TLS"):
        pyro.locate_ns(hmac_key=b"key")
