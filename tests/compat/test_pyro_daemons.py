"""Daemons, exposure and instances as Pyro programs have them."""

from __future__ import annotations

import gc
import itertools
import pickle
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import broker
from broker.compat import Pyro4
from tests.conftest import self_signed


class Plain:
    def __init__(self, name: str = "plain") -> None:
        self.name = name


def counter(pyro: Any) -> Any:
    numbers = itertools.count()

    class Counter:
        def __init__(self) -> None:
            self.count = 0
            self.number = next(numbers)  # no other has it: an id is given again to the next object

        @pyro.expose
        def add(self) -> int:
            self.count += 1
            return self.count

        @pyro.expose
        def identity(self) -> int:
            return self.number

        def __len__(self) -> int:  # falsy, for all that
            return 0

    return Counter


# ---- exposure


def test_what_is_exposed(pyro: Any, looping: Any) -> None:
    @pyro.expose
    class Base:
        def inherited(self) -> None:
            pass

        def overridden(self) -> None:
            pass

        @staticmethod
        def static(value: int) -> int:
            return value

        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        def _private(self) -> None:
            pass

    class Derived(Base):
        def overridden(self) -> None:
            pass

        @pyro.expose
        def marked(self) -> None:
            pass

        @property
        def hidden(self) -> int:
            return 1

    daemon = looping(pyro.Daemon())
    with daemon.proxyFor(daemon.register(Derived()).object) as proxy:
        assert proxy._pyroMethods == {"inherited", "static", "of_class", "marked"}
        assert proxy._pyroAttrs == set()
        assert (proxy.static(3), proxy.of_class()) == (3, "Derived")
    assert Base._pyroExposed  # type: ignore[attr-defined]


def test_decorators_refuse_what_cannot_be(pyro: Any) -> None:
    private: list[Any] = [type("_Private", (), {}), _private]
    for target in private:
        with pytest.raises(AttributeError, match=r"exposing private names \(starting with _\) is not allowed"):
            pyro.expose(target)
    with pytest.raises(AttributeError, match="using @expose on a classmethod/staticmethod must be done after"):
        pyro.expose(staticmethod(print_nothing))
    with pytest.raises(AttributeError, match="@expose cannot determine what this is"):
        pyro.expose(42)
    with pytest.raises(SyntaxError, match="behavior decorator is missing argument"):
        pyro.behavior(Plain)
    with pytest.raises(ValueError, match="invalid instance mode: kaputt"):
        pyro.behavior("kaputt")(Plain)
    with pytest.raises(TypeError, match="instance_creator must be a callable"):
        pyro.behavior(instance_creator=42)(Plain)
    with pytest.raises(TypeError, match="can only be used on a class"):
        pyro.behavior("single")(print_nothing)


def _private() -> None:
    pass


def print_nothing() -> None:
    pass


def test_everything_is_exposed_if_that_is_not_required(pyro: Any, serve: Any) -> None:
    class Open:
        def method(self) -> str:
            return "open"

    pyro.config.REQUIRE_EXPOSE = False
    assert pyro.Proxy(serve(Open())).method() == "open"


def test_what_is_exposed_can_be_asked_for_locally() -> None:
    @Pyro4.expose
    class Thing:
        hidden = 1

        def method(self) -> str:
            return "called"

        @property
        def fixed(self) -> int:
            return 42

        @property
        def free(self) -> int:
            return self._free

        @free.setter
        def free(self, value: int) -> None:
            self._free = value

    thing, util = Thing(), Pyro4.util
    assert util.getAttribute(thing, "method")() == "called"
    util.set_exposed_property_value(thing, "free", 7)
    assert [util.get_exposed_property_value(thing, name) for name in ("fixed", "free")] == [42, 7]
    for name in ("hidden", "nothing", "fixed"):
        with pytest.raises(AttributeError, match="unexposed or unknown remote attribute"):
            util.set_exposed_property_value(thing, name, 1)
    for name, message in (("_free", "private"), ("hidden", "unexposed")):
        with pytest.raises(AttributeError, match=f"attempt to access {message} attribute"):
            util.getAttribute(thing, name)


# ---- registering


def test_registering_and_forgetting(pyro: Any) -> None:
    with pyro.Daemon() as daemon:
        one, other = Plain(), Plain()
        uri = daemon.register(one)
        assert uri.object == one._pyroId  # type: ignore[attr-defined]
        assert str(uri).startswith("PYRO:obj_")
        with pytest.raises(pyro.errors.DaemonError) as raised:
            daemon.register(one)
        assert str(raised.value) == "object or class already has a Pyro id"
        daemon.register(other, "name")
        with pytest.raises(pyro.errors.DaemonError) as raised:
            daemon.register(Plain(), "name")
        assert str(raised.value) == "an object or class is already registered with that id"
        third = Plain()
        daemon.register(third, "name", force=True)
        assert daemon.objectsById["name"] is third
        daemon.unregister(one)
        assert not hasattr(one, "_pyroId")
        assert not hasattr(one, "_pyroDaemon")
        daemon.unregister("name")
        daemon.unregister("nothing")
        with pytest.raises(ValueError, match="argument expected"):
            daemon.unregister(None)
        with pytest.raises(pyro.errors.DaemonError, match="object isn't registered"):
            daemon.unregister(Plain())
        with pytest.raises(TypeError, match="objectId must be a string or None"):
            daemon.register(Plain(), 42)
        with pytest.raises(AttributeError):
            daemon.register(42)
        daemon.unregister("Pyro.Daemon")
        assert list(daemon.objectsById) == ["Pyro.Daemon"]


def test_uris_proxies_and_what_is_printed(pyro: Any, looping: Any) -> None:
    daemon = looping(pyro.Daemon())
    uri = daemon.register(counter(pyro)(), "counter")
    assert str(daemon.uriFor("whatever")) == f"PYRO:whatever@{daemon.locationStr}"
    assert daemon.uriFor(daemon.objectsById["counter"]) == uri
    proxy = daemon.proxyFor("counter")
    assert "add" in proxy._pyroMethods
    assert proxy.add() == 1
    for unknown in ("nothing", Plain()):
        with pytest.raises(pyro.errors.DaemonError):
            daemon.proxyFor(unknown)
    assert repr(daemon).endswith(f"Daemon at 0x{id(daemon):x}; {daemon.locationStr} - IPv4; 2 objects>")
    assert daemon.sock.getsockname()[1] == uri.port
    assert type(pickle.loads(pickle.dumps(daemon))) is type(daemon)


def test_addresses(pyro: Any, tmp_path: Any, looping: Any) -> None:
    with pyro.Daemon(nathost="outside", natport=1234) as daemon:
        assert daemon.natLocationStr == "outside:1234"
        assert daemon.register(Plain()).location == "outside:1234"
        assert daemon.uriFor("x", nat=False).location == daemon.locationStr
    with pyro.Daemon(nathost="outside") as daemon:
        assert daemon.natLocationStr == f"outside:{daemon.sock.getsockname()[1]}"
    with pytest.raises(ValueError, match="must provide natport with nathost"):
        pyro.Daemon(natport=5555)
    with pytest.raises(ValueError, match="nathost"):
        pyro.Daemon(nathost="x", unixsocket="sock")
    daemon = looping(pyro.Daemon(unixsocket=str(tmp_path / "sock")))
    assert daemon.locationStr == f"./u:{tmp_path}/sock"
    proxy = pyro.Proxy(daemon.register(counter(pyro)()))
    assert proxy.add() == 1
    assert "connected Unix" in repr(proxy)
    with pyro.Daemon() as taken, pytest.raises(OSError, match="something else listens there"):
        pyro.Daemon(port=taken.sock.getsockname()[1])
    pyro.config.SERVERTYPE = "foobar"
    with pytest.raises(pyro.errors.PyroError, match="invalid server type 'foobar'"):
        pyro.Daemon()


def test_a_closed_daemon_is_not_used_again(pyro: Any) -> None:
    daemon = pyro.Daemon()
    daemon.close()
    with pytest.raises(pyro.errors.PyroError, match="cannot reuse this object"), daemon:
        pass


def test_the_daemon_is_an_object_too(pyro: Any, looping: Any) -> None:
    daemon = looping(pyro.Daemon())
    daemon.register(counter(pyro)(), "counter")
    with pyro.Proxy(daemon.uriFor("Pyro.Daemon")) as proxy:
        assert proxy.registered() == ["Pyro.Daemon", "counter"]
        assert proxy.ping() is None
        assert "Daemon" in proxy.info()
        assert proxy.get_metadata("counter")["methods"] == {"add", "identity"}
        assert proxy._pyroMethods == {
            "registered", "ping", "info", "get_metadata", "get_next_stream_item", "close_stream",
        }  # fmt: skip


def test_an_interface_of_the_programs_own(pyro: Any, looping: Any) -> None:
    base = type(pyro.Daemon().objectsById["Pyro.Daemon"])

    class Interface(base):  # type: ignore[misc, valid-type]
        @pyro.expose
        def more(self) -> int:
            return 42

    daemon = looping(pyro.Daemon(interface=Interface))
    assert pyro.Proxy(daemon.uriFor("Pyro.Daemon")).more() == 42


def test_weakly_registered_objects_go_with_their_last_reference(pyro: Any, looping: Any) -> None:
    daemon, target = looping(pyro.Daemon()), counter(pyro)()
    proxy = pyro.Proxy(daemon.register(target, "weak", weak=True))
    assert proxy.add() == 1
    del target
    gc.collect()
    assert "weak" not in daemon.objectsById
    with pytest.raises(pyro.errors.DaemonError, match="unknown object"):
        proxy.add()
    with pytest.raises(TypeError, match="Classes cannot be registered with weak=True"):
        daemon.register(counter(pyro), weak=True)


def test_metadata_is_looked_at_again(pyro: Any, looping: Any) -> None:
    daemon, cls = looping(pyro.Daemon()), counter(pyro)
    daemon.register(cls(), "counter")
    cls.added = pyro.expose(lambda self: "added")
    assert "added" not in daemon.proxyFor("counter")._pyroMethods
    daemon.resetMetadataCache("counter")
    assert daemon.proxyFor("counter").added() == "added"


# ---- instances


@pytest.mark.parametrize(
    ("mode", "counts", "same"),
    [("session", [1, 2, 1, 3], False), ("single", [1, 2, 3, 4], True), ("percall", [1] * 4, False)],
)
def test_instance_modes(pyro: Any, serve: Any, mode: str, counts: list[int], same: bool) -> None:
    uri = serve(pyro.behavior(instance_mode=mode)(counter(pyro)))
    one, other = pyro.Proxy(uri), pyro.Proxy(uri)
    assert [one.add(), one.add(), other.add(), one.add()] == counts
    assert (one.identity() == other.identity()) is same
    one._pyroRelease()
    assert one.add() == (5 if mode == "single" else 1)


def test_instance_creators(pyro: Any, serve: Any) -> None:
    @pyro.behavior(instance_creator=lambda cls: cls("made"))
    class Named:
        def __init__(self, name: str) -> None:
            self._name = name

        @pyro.expose
        def name(self) -> str:
            return self._name

    @pyro.behavior(instance_creator=lambda cls: "other")
    class Wrong(Named):
        pass

    @pyro.expose
    class NeedsArguments:
        def __init__(self, needed: int) -> None:
            pass

        def ping(self) -> None:
            pass

    assert pyro.Proxy(serve(Named)).name() == "made"
    with pytest.raises(TypeError, match="instance creator returned object of different type"):
        pyro.Proxy(serve(Wrong)).name()
    with pytest.raises(TypeError, match="needed"):
        pyro.Proxy(serve(NeedsArguments)).ping()


# ---- loops


def test_a_condition_ends_the_loop(pyro: Any) -> None:
    ends = time.monotonic() + 0.3
    with pyro.Daemon() as daemon:
        daemon.requestLoop(lambda: time.monotonic() < ends)
    assert time.monotonic() >= ends


def test_a_method_may_shut_its_daemon_down(pyro: Any) -> None:
    class Ending:
        @pyro.expose
        @pyro.oneway
        def end(self) -> None:
            self._pyroDaemon.shutdown()  # type: ignore[attr-defined]

    daemon = pyro.Daemon()
    uri = daemon.register(Ending())
    thread = threading.Thread(target=daemon.requestLoop)
    thread.start()
    pyro.Proxy(uri).end()
    thread.join(10)
    assert not thread.is_alive()


def test_housekeeping_goes_on(pyro: Any, looping: Any) -> None:
    done = threading.Event()

    class Keeping(pyro.Daemon):  # type: ignore[misc]
        def housekeeping(self) -> None:
            done.set()

    looping(Keeping())
    assert done.wait(10)


def thread_of(pyro: Any) -> Any:
    class ThreadOf:
        @pyro.expose
        def ident(self) -> int:
            return threading.get_ident()

    return ThreadOf()


def test_the_multiplex_server_runs_one_call_at_a_time_in_its_loop(pyro: Any) -> None:
    pyro.config.SERVERTYPE = "multiplex"
    daemon = pyro.Daemon()
    uri = daemon.register(thread_of(pyro))
    thread = threading.Thread(target=daemon.requestLoop)
    thread.start()
    assert pyro.Proxy(uri).ident() == thread.ident
    daemon.shutdown()
    thread.join(10)


def test_loops_of_programs(pyro: Any) -> None:
    pyro.config.SERVERTYPE = "multiplex"
    with pyro.Daemon() as daemon, pyro.Daemon() as other:
        pyro.config.SERVERTYPE = "thread"
        with pyro.Daemon() as threaded, pytest.raises(TypeError, match="can't use the loop combiner on the threadpool"):
            threaded.combine(daemon)
        daemon.combine(other)
        answers: list[int] = []
        proxies = [pyro.Proxy(each.register(thread_of(pyro))) for each in (daemon, other)]
        threads = [threading.Thread(target=lambda p=proxy: answers.append(p.ident())) for proxy in proxies]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + 20
        while len(answers) < 2 and time.monotonic() < ends:
            sockets = set(daemon.sockets)
            ready, _, _ = select.select(sockets, [], [], 1)
            if sockets & set(ready):
                daemon.events(ready)
        assert answers == [threading.get_ident()] * 2
        for thread in threads:
            thread.join(10)


# ---- handshakes


def test_handshakes_and_ends_of_connections(pyro: Any, looping: Any) -> None:
    seen: list[Any] = []
    gone = threading.Event()

    class Careful(pyro.Daemon):  # type: ignore[misc]
        def validateHandshake(self, conn: Any, data: Any) -> Any:
            seen.append((data, conn.sock.getpeername()[0]))
            if data != ("the", "word"):
                raise ValueError("wrong word")
            return {"welcome": True}

        def clientDisconnect(self, conn: Any) -> None:
            gone.set()

    class Checking(pyro.Proxy):  # type: ignore[misc]
        def _pyroValidateHandshake(self, response: Any) -> None:
            seen.append(response)

    uri = looping(Careful()).register(counter(pyro)())
    refused = pyro.Proxy(uri)
    for _ in range(2):
        with pytest.raises(
            pyro.errors.CommunicationError, match=r"connection to \('localhost', \d+\) rejected: wrong word"
        ):
            refused.add()
    assert [data for data, _ in seen] == ["hello", "hello"]
    proxy = Checking(uri)
    proxy._pyroHandshake = ("the", "word")
    assert proxy.add() == 1
    assert seen[2:] == [(("the", "word"), "127.0.0.1"), {"welcome": True}]
    proxy._pyroRelease()
    assert gone.wait(10)


def test_a_proxy_that_refuses_refuses_every_call(pyro: Any, serve: Any) -> None:
    class Refusing(pyro.Proxy):  # type: ignore[misc]
        def _pyroValidateHandshake(self, response: Any) -> None:
            raise PermissionError("not with them")

    proxy = Refusing(serve(counter(pyro)()))
    for _ in range(2):
        with pytest.raises(PermissionError, match="not with them"):
            proxy.add()
    assert proxy._pyroConnection is None


def test_errors_of_methods_are_handed_to_the_handler(pyro: Any, looping: Any) -> None:
    handled: list[Any] = []

    class Failing:
        @pyro.expose
        def fail(self, a: int, *, b: int) -> None:
            raise ValueError("failed")

        @pyro.expose
        def items(self) -> Iterator[int]:
            return iter([1])

    daemon = looping(pyro.Daemon())
    daemon.methodcall_error_handler = lambda *what: handled.append(what)
    proxy = pyro.Proxy(daemon.register(Failing()))
    with pytest.raises(ValueError, match="failed"):
        proxy.fail(1, b=2)
    ((on, address, method, args, kwargs, error),) = handled
    assert (on, address[0], method.__name__, args, kwargs) == (daemon, "127.0.0.1", "fail", (1,), {"b": 2})
    assert str(error) == "failed"
    pyro.config.ITER_STREAMING = False
    with pytest.raises(
        pyro.errors.ProtocolError, match="result of call is an iterator, but the server is not configured"
    ):
        proxy.items()


def test_a_daemon_that_was_started_anew_is_greeted_anew(pyro: Any, looping: Any) -> None:
    greeted: list[Any] = []

    class Greeting(pyro.Daemon):  # type: ignore[misc]
        def validateHandshake(self, conn: Any, data: Any) -> Any:
            greeted.append(data)

    daemon = looping(Greeting())
    uri = daemon.register(counter(pyro)(), "counter")
    proxy = pyro.Proxy(uri)
    assert proxy.add() == 1
    daemon.shutdown()
    looping(Greeting(port=uri.port)).register(counter(pyro)(), "counter")
    while True:  # whether the loss is noticed before the next call or in it
        try:
            assert proxy.add() == 1
            break
        except pyro.errors.ConnectionClosedError:
            assert not proxy._pyroConnection
    assert greeted == ["hello", "hello"]


def test_who_has_not_been_greeted_cannot_call(pyro: Any, looping: Any) -> None:
    class Careful(pyro.Daemon):  # type: ignore[misc]
        def validateHandshake(self, conn: Any, data: Any) -> Any:
            raise PermissionError("nobody")

    target = counter(pyro)()
    uri = looping(Careful()).register(target)
    for metadata in ({}, {"pyro-connection": "0" * 32}):
        with pytest.raises(Exception, match="there was no handshake with this daemon"):
            broker.Proxy(str(uri), metadata=metadata).add()
    assert target.count == 0


@pytest.mark.usefixtures("on_the_wire")
def test_tls(pyro: Any, looping: Any, tmp_path: Any) -> None:
    self_signed(tmp_path)
    config = pyro.config
    config.SSL, config.SSL_CACERTS = True, str(tmp_path / "certificate")
    config.SSL_SERVERCERT, config.SSL_SERVERKEY = str(tmp_path / "certificate"), str(tmp_path / "key")
    uri = looping(pyro.Daemon()).register(counter(pyro)())
    assert pyro.Proxy(uri).add() == 1
    config.SSL = False
    proxy = pyro.Proxy(uri)
    proxy._pyroTimeout = 2
    with pytest.raises(pyro.errors.CommunicationError):
        proxy.add()
    config.SSL, config.SSL_SERVERCERT = True, str(tmp_path / "nothing")
    with pytest.raises(OSError, match="server cert file not found"):
        pyro.Daemon()
