"""What is wrong in Pyro itself is right here."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.compat import Pyro4, Pyro5

Looping = Callable[[Any], Any]


def worker(pyro: Any) -> Any:
    class Worker:
        def __init__(self) -> None:
            self.calls = 0

        @pyro.expose
        def echo(self, value: Any) -> Any:
            return value

        @pyro.expose
        def count(self) -> int:
            self.calls += 1
            return self.calls

        @pyro.expose
        def exit(self) -> None:
            sys.exit(3)

        @pyro.expose
        def unserializable(self) -> Any:
            return threading.Lock()

        @pyro.expose
        def custom(self) -> None:
            raise type("OutOfStock", (LookupError,), {})("no more chairs")

        @pyro.expose
        @pyro.callback
        def callback(self) -> None:
            raise ValueError("in the callback")

        @pyro.expose
        @property
        def prop(self) -> int:
            return 5

        def __len__(self) -> int:
            return 0

    return Worker


def test_1_proxies_for_metadata_are_hashable(pyro: Any) -> None:
    assert hash(pyro.URI("PYROMETA:a,b")) == hash(pyro.URI("PYROMETA:b,a"))
    assert len({pyro.Proxy("PYROMETA:a,b"), pyro.Proxy("PYROMETA:b,a")}) == 1


def test_2_who_cannot_be_reached_is_tried_again(pyro: Any) -> None:
    daemon = pyro.Daemon()
    uri = daemon.register(worker(pyro)())
    daemon.close()
    started: list[Any] = []

    def start() -> None:
        time.sleep(0.3)
        again = pyro.Daemon(port=uri.port)
        again.register(worker(pyro)(), uri.object)
        started.append(again)
        again.requestLoop()

    thread = threading.Thread(target=start)
    thread.start()
    proxy = pyro.Proxy(uri)
    proxy._pyroMaxRetries = 8
    try:
        proxy._pyroMethods = {"count"}
        assert proxy.count() == 1
    finally:
        started[0].shutdown()
        thread.join(10)


def test_3_values_that_cannot_travel_leave_connection_and_session_as_they_are(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(worker(pyro)))
    assert proxy.count() == 1
    for fail in (lambda: proxy.echo(threading.Lock()), proxy.unserializable):
        with pytest.raises((pyro.errors.SerializeError, TypeError)):
            fail()
    assert proxy._pyroConnection is not None
    assert proxy.count() == 2


def test_4_an_unknown_name_fails_at_its_place_in_a_batch(pyro: Any, serve: Any) -> None:
    batch = pyro.batch(pyro.Proxy(serve(worker(pyro))))
    batch.count()
    batch.no_such_method()
    results = batch()
    assert next(results) == 1
    with pytest.raises(AttributeError, match="no_such_method"):
        next(results)


def test_5_batches_and_properties_work_with_every_serializer(pyro: Any, serve: Any) -> None:
    pyro.config.SERIALIZER = "marshal"
    proxy = pyro.Proxy(serve(worker(pyro)))
    assert proxy.prop == 5
    batch = pyro.batch(proxy)
    batch.echo({1, 2})
    assert list(batch()) == [{1, 2}]


def test_6_a_failing_callback_leaves_the_connection_open(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(worker(pyro)))
    proxy.count()
    with pytest.raises(ValueError, match="in the callback"):
        proxy.callback()
    assert proxy.count() == 2


def test_7_a_daemon_that_was_shut_down_serves_nobody(pyro: Any, looping: Looping) -> None:
    daemon = looping(pyro.Daemon())
    proxy = pyro.Proxy(daemon.register(worker(pyro)()))
    proxy.count()
    daemon.shutdown()
    with pytest.raises(pyro.errors.CommunicationError):
        proxy.count()


def test_8_a_falsy_instance_is_made_once(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(worker(pyro)))
    assert [proxy.count(), proxy.count()] == [1, 2]


def test_9_classes_of_the_main_program_travel(pyro: Any, serve: Any) -> None:
    thing = type("Thing", (), {"__module__": "__main__", "__init__": lambda self, n: setattr(self, "n", n)})
    pyro.hooks.register_class_to_dict(thing, lambda thing: {"__class__": "__main__.Thing", "n": thing.n})
    pyro.hooks.register_dict_to_class("__main__.Thing", lambda name, fields: thing(fields["n"]))
    try:
        assert pyro.Proxy(serve(worker(pyro)())).echo(thing(7)).n == 7
    finally:
        pyro.hooks.unregister_class_to_dict(thing)
        pyro.hooks.unregister_dict_to_class("__main__.Thing")


@pytest.mark.usefixtures("on_the_wire")
def test_10_what_is_too_large_says_so(pyro: Any, looping: Looping) -> None:
    pyro.config.MAX_MESSAGE_SIZE = 20_000
    proxy = pyro.Proxy(looping(pyro.Daemon()).register(worker(pyro)()))
    with pytest.raises(pyro.errors.MessageTooLargeError, match="message too large"):
        proxy.echo("x" * 50_000)
    assert isinstance(pyro.errors.MessageTooLargeError(), pyro.errors.ProtocolError)
    assert proxy.echo("small") == "small"


def test_11_the_text_of_an_unknown_exception_arrives(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(worker(pyro)))
    with pytest.raises(
        pyro.errors.SerializeError, match=r"unsupported serialized class: .*OutOfStock.*no more chairs"
    ) as raised:
        proxy.custom()
    assert isinstance(raised.value, LookupError)
    assert "no more chairs" in "".join(pyro.traceback(raised.type, raised.value, raised.tb))


def test_12_an_exception_that_is_known_by_a_hook_is_raised_as_what_it_is(pyro: Any, serve: Any) -> None:
    class OutOfStock(Exception):
        pass

    cls = worker(pyro)
    with pytest.raises(pyro.errors.SerializeError) as unknown:
        pyro.Proxy(serve(cls)).custom()
    name = unknown.value.type
    pyro.hooks.register_dict_to_class(name, lambda name, fields: OutOfStock(*fields["args"]))
    try:
        with pytest.raises(OutOfStock, match="no more chairs") as raised:
            pyro.Proxy(serve(cls)).custom()
        assert "Remote traceback" in "".join(pyro.traceback(raised.type, raised.value, raised.tb))
    finally:
        pyro.hooks.unregister_dict_to_class(name)


def test_13_calls_inside_a_method_leave_its_response_annotations_alone(pyro: Any, looping: Looping) -> None:
    daemon = looping(pyro.Daemon())
    inner = daemon.register(worker(pyro)())

    class Outer:
        @pyro.expose
        def call(self) -> Any:
            pyro.context.response_annotations["MINE"] = b"kept"
            return pyro.Proxy(inner).echo(1)

    assert pyro.Proxy(daemon.register(Outer())).call() == 1
    assert pyro.context.response_annotations == {"MINE": b"kept"}


def test_14_methods_that_exit_use_up_no_workers(pyro: Any, looping: Looping) -> None:
    pyro.config.THREADPOOL_SIZE = 2
    proxy = pyro.Proxy(looping(pyro.Daemon()).register(worker(pyro)()))
    for _ in range(5):
        with pytest.raises(pyro.errors.PyroError, match="SystemExit"):
            proxy.exit()
    assert proxy.count() == 1


def test_15_prefixes_are_literal_in_every_storage(pyro: Any, tmp_path: Any, looping: Looping) -> None:
    _, daemon, _ = pyro.start_ns("localhost", 0, storage=f"sql:{tmp_path / 'names'}")
    looping(daemon)
    for name in ("a_b", "axb", "A_b"):
        daemon.nameserver.register(name, "PYRO:o@h:1")
    assert list(daemon.nameserver.list(prefix="a_")) == ["a_b"]


def test_16_resolve_waits_and_gives_a_uri(pyro: Any, names: Any) -> None:
    names.register("there", "PYRO:o@host:1")
    assert pyro.resolve("PYRONAME:there", delay_time=5) == pyro.URI("PYRO:o@host:1")
    began = time.monotonic()
    with pytest.raises(pyro.errors.NamingError):
        pyro.resolve("PYRONAME:missing", delay_time=0.3)
    assert time.monotonic() - began > 0.25


def test_17_the_control_tool_exits_with_1_where_nobody_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Pyro4.nsc.main(["-n", "localhost", "-p", "1", "list"])
    assert (ended.value.code, capsys.readouterr()) == (1, ("Error: Failed to locate the nameserver\n", ""))


def test_18_foreign_variables_do_no_harm(pyro: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_ONEWAY_THREADED", "1")
    monkeypatch.setenv("PYRO_TRACE_DIR", "x")
    pyro.config.reset()
    assert pyro.config.NS_PORT == 9090


def test_19_aliases_in_the_name_server_are_followed(pyro: Any, names: Any, looping: Looping) -> None:
    names.register("real", looping(pyro.Daemon()).register(worker(pyro)()))
    names.register("alias", "PYRONAME:real")
    assert pyro.Proxy("PYRONAME:alias").count() == 1
    names.register("round", "PYRONAME:about")
    names.register("about", "PYRONAME:round")
    with pytest.raises(pyro.errors.NamingError, match="leads from name to name"):
        pyro.resolve("PYRONAME:round")


def test_20_async_methods_are_awaited(pyro: Any, serve: Any) -> None:
    class Modern:
        @pyro.expose
        async def answer(self) -> int:
            return 42

    assert pyro.Proxy(serve(Modern())).answer() == 42


def test_21_an_address_that_leads_nowhere_is_not_published(pyro: Any) -> None:
    with pyro.Daemon(host="") as daemon:
        assert not daemon.locationStr.startswith("0.0.0.0")


def test_22_serve_takes_the_argument_that_the_manual_shows() -> None:
    import inspect

    for function in (Pyro5.api.serve, Pyro4.Daemon.serveSimple):
        assert "ns" in inspect.signature(function).parameters


def test_23_weak_objects_are_gone_for_who_is_connected(pyro: Any, looping: Looping) -> None:
    target = worker(pyro)()
    proxy = pyro.Proxy(looping(pyro.Daemon()).register(target, weak=True))
    assert proxy.count() == 1
    del target
    gc.collect()
    with pytest.raises(pyro.errors.DaemonError, match="unknown object"):
        proxy.count()
