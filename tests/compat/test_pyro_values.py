"""What values become on their way, the hooks for classes, proxies of registered objects, and exceptions."""

from __future__ import annotations

import datetime
import decimal
import enum
import sys
import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from broker.compat import Pyro4, Pyro5, serializers


class Thingy:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thingy) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("a", "b")
    a: int
    b: int


@dataclass
class Point:
    x: int
    y: int


class CustomError(Exception):
    pass


def echo(pyro: Any) -> Any:
    class Echo:
        def __init__(self) -> None:
            self.kept: Any = None

        @pyro.expose
        def echo(self, value: Any) -> Any:
            return value

        @pyro.expose
        def type_of(self, value: Any) -> str:
            return type(value).__name__

        @pyro.expose
        def fail(self, error: str) -> None:
            if error == "builtin":
                raise KeyError("missing", 3)
            if error == "custom":
                raise CustomError("of the program")
            if error == "pyro":
                raise pyro.errors.NamingError("from the method")
            if error == "exit":
                sys.exit(3)
            if error == "group":
                raise type("Several", (ExceptionGroup,), {})("several", [KeyError("one"), CustomError("two")])
            raise type("Local", (ValueError,), {})("local text")

    return Echo()


VALUES: list[Any] = [
    None, True, 42, 2**100, 1.5, "text \u20ac", b"bytes", bytearray(b"x"), (1, 2), {1, 2}, set(),
    frozenset({1}), [1, [2]],
    {"a": 1}, {1: "int key", (1, 2): "tuple key", None: "none"}, 3 + 4j, decimal.Decimal("1.5"), uuid.UUID(int=5),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.date(2020, 1, 1), datetime.timedelta(1),
    {"__class__": "a key"},
]  # fmt: skip


@pytest.mark.parametrize("serializer", ["serpent", "json", "marshal", "msgpack"])
def test_values_arrive_as_what_they_are(pyro: Any, serve: Any, serializer: str) -> None:
    pyro.config.SERIALIZER = serializer
    with pyro.Proxy(serve(echo(pyro))) as proxy:
        result = proxy.echo(VALUES)
    assert result == VALUES
    assert [type(value) for value in result] == [type(value) for value in VALUES]


def test_unknown_serializers(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(echo(pyro)))
    proxy._pyroSerializer = "nothing"
    with pytest.raises(KeyError, match="unknown serializer configured"):
        proxy.echo(1)
    pyro.config.SERIALIZER = "nothing"
    with pytest.raises(ValueError, match="unknown serializer configured"):
        pyro.Proxy("PYRO:o@localhost:1")


def test_pickle_only_where_both_sides_opt_in(pyro: Any, serve: Any) -> None:
    refusing = pyro.Proxy(serve(echo(pyro)))
    refusing._pyroSerializer = "pickle"
    with pytest.raises(pyro.errors.CommunicationError, match="'pickle' is not accepted"):
        refusing.echo(Thingy(1))
    pyro.config.SERIALIZERS_ACCEPTED.add("pickle")
    for serializer in ("pickle", "dill", "cloudpickle"):
        proxy = pyro.Proxy(serve(echo(pyro)))
        proxy._pyroSerializer = serializer
        assert proxy.echo(Thingy(1)) == Thingy(1)


# ---- hooks


def test_hooks_for_classes(pyro: Any, serve: Any) -> None:
    hooks = pyro.hooks
    proxy = pyro.Proxy(serve(echo(pyro)))
    hooks.register_class_to_dict(Thingy, lambda thingy: {"__class__": "the-thingy", "n": thingy.number})
    hooks.register_dict_to_class("the-thingy", lambda name, fields: Thingy(fields["n"] + (name != "the-thingy")))
    try:
        assert proxy.echo([Thingy(3), {"k": (Thingy(4),)}]) == [Thingy(3), {"k": (Thingy(4),)}]
    finally:
        hooks.unregister_class_to_dict(Thingy)
        hooks.unregister_dict_to_class("the-thingy")


def test_without_hooks_a_class_is_its_attributes_and_has_to_be_known_where_it_arrives(pyro: Any, serve: Any) -> None:
    hooks, name = pyro.hooks, f"{Thingy.__module__}.Thingy"
    proxy = pyro.Proxy(serve(echo(pyro)))
    with pytest.raises(pyro.errors.SerializeError, match=f"unsupported serialized class: {name}"):
        proxy.echo(Thingy(3))
    assert proxy.echo("the connection is as it was") == "the connection is as it was"
    hooks.register_dict_to_class(name, lambda name, fields: Thingy(fields["number"]))
    slotted = f"{Slotted.__module__}.Slotted"
    hooks.register_dict_to_class(slotted, lambda name, fields: (fields["a"], fields["b"]))
    try:
        assert proxy.echo(Thingy(3)) == Thingy(3)
        value = Slotted()
        value.a, value.b = 1, 2
        assert proxy.echo(value) == (1, 2)
    finally:
        hooks.unregister_dict_to_class(name)
        hooks.unregister_dict_to_class(slotted)
    assert hooks.class_to_dict(Thingy(3)) == {"__class__": name, "number": 3}
    assert hooks.class_to_dict(KeyError("k"))["args"] == ("k",)


def test_a_dataclass_arrives_where_its_name_has_a_hook(pyro: Any, serve: Any) -> None:
    name = f"{Point.__module__}.Point"
    pyro.hooks.register_dict_to_class(name, lambda name, fields: Point(fields["x"], fields["y"]))
    try:
        assert pyro.Proxy(serve(echo(pyro))).echo(Point(1, 2)) == Point(1, 2)
    finally:
        pyro.hooks.unregister_dict_to_class(name)


class Place(NamedTuple):
    shelf: int
    row: int


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("where", ["echo", "serializer"])
def test_what_is_like_a_tuple_or_has_a_value_arrives_as_that(pyro: Any, serve: Any, where: str) -> None:
    writing = Pyro5.serializers.serializers["serpent"]
    proxy = pyro.Proxy(serve(echo(pyro)))
    pass_on = proxy.echo if where == "echo" else lambda value: writing.loads(writing.dumps(value))
    assert pass_on([Place(1, 2), {"colour": Colour.RED}]) == [(1, 2), {"colour": "red"}]
    assert type(pass_on(Place(1, 2))) is tuple
    with pytest.raises(pyro.errors.SerializeError, match=r"unsupported serialized class: .*Point"):
        pass_on(Point(1, 2))


def test_replacements_of_types(pyro: Any, serve: Any) -> None:
    pyro.hooks.register_type_replacement(Thingy, lambda thingy: ("thingy", thingy.number))
    try:
        assert pyro.Proxy(serve(echo(pyro))).echo(Thingy(3)) == ("thingy", 3)
    finally:
        serializers._replacements.clear()
    with pytest.raises(ValueError, match="non-type"):
        pyro.hooks.register_type_replacement("Thingy", print)


def test_uris_and_proxies_are_values(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(echo(pyro)))
    uri = pyro.URI("PYRO:o@host:1")
    assert proxy.echo(uri) == uri
    passed = proxy.echo(proxy)
    assert type(passed) is type(proxy)
    assert passed == proxy
    assert passed.echo(1) == 1


@pytest.mark.parametrize("serializer", ["serpent", "json", "marshal", "msgpack"])
def test_serializers_write_and_read_values(pyro: Any, serializer: str) -> None:
    writing = Pyro5.serializers.serializers[serializer]
    assert Pyro5.serializers.serializers_by_id[writing.serializer_id] is writing
    assert Pyro4.util.get_serializer(serializer) is writing
    for value in (VALUES, pyro.URI("PYRO:o@host:1"), [pyro.URI("PYROMETA:a,b")]):
        assert writing.loads(bytearray(writing.dumps(value))) == value
    assert writing.loadsCall(writing.dumpsCall("o", "m", [1], {"k": 2})) == ("o", "m", [1], {"k": 2})
    proxy = pyro.Proxy("PYRO:o@host:1")
    proxy._pyroHandshake, proxy._pyroMethods, proxy._pyroMaxRetries = "hi", {"m"}, 5
    again = writing.loads(writing.dumps([proxy]))[0]
    assert (again, again._pyroHandshake, again._pyroMethods, again._pyroMaxRetries) == (proxy, "hi", {"m"}, 0)
    error = pyro.errors.NamingError("text")
    error._pyroTraceback = ["line"]
    raised = writing.loads(writing.dumps(error))
    assert (type(raised), raised.args, raised._pyroTraceback) == (type(error), ("text",), ["line"])
    with pytest.raises(pyro.errors.SerializeError):
        writing.loads(writing.dumps(Thingy(1)))
    with pytest.raises(pyro.errors.SerializeError):
        writing.dumps(print)


def test_daemons_and_their_objects_in_serializers(pyro: Any) -> None:
    writing = Pyro5.serializers.serializers["serpent"]
    with pyro.Daemon() as daemon:
        again = writing.loads(writing.dumps(daemon))
        assert (type(again), vars(again)) == (pyro.Daemon, {})
        assert repr(again).endswith("; unusable>")
        target = echo(pyro)
        daemon.register(target, "target")
        proxy = writing.loads(writing.dumps({"of": target}))["of"]
        assert (proxy._pyroUri.object, proxy._pyroMethods) == ("target", {"echo", "fail", "type_of"})


# ---- registered objects


def test_registered_objects_arrive_as_proxies(pyro: Any, looping: Any) -> None:
    daemon = looping(pyro.Daemon())

    class Thing:
        @pyro.expose
        def name(self) -> str:
            return "thing"

    class Factory:
        @pyro.expose
        def make(self) -> Any:
            thing = Thing()
            self._pyroDaemon.register(thing)  # type: ignore[attr-defined]
            return {"made": [thing]}

        @pyro.expose
        def type_of(self, thing: Any) -> str:
            return type(thing).__name__

        @pyro.expose
        def unregistered(self) -> Any:
            return Thing()

    proxy = pyro.Proxy(daemon.register(Factory()))
    thing = proxy.make()["made"][0]
    assert isinstance(thing, pyro.Proxy)
    assert thing.name() == "thing"
    assert proxy.type_of(thing) == "Proxy"
    with pytest.raises(pyro.errors.SerializeError):
        proxy.unregistered()
    daemon.register(Thing)
    assert isinstance(proxy.unregistered(), pyro.Proxy)
    daemon.unregister(Thing)
    pyro.config.AUTOPROXY = False
    with pytest.raises(pyro.errors.SerializeError):
        proxy.make()


# ---- exceptions


def test_exceptions_arrive_with_their_remote_traceback(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(echo(pyro)))
    with pytest.raises(KeyError) as raised:
        proxy.fail("builtin")
    assert raised.value.args == ("missing", 3)
    assert any('raise KeyError("missing", 3)' in line for line in raised.value._pyroTraceback)  # type: ignore[attr-defined]
    lines = pyro.traceback(raised.type, raised.value, raised.tb)
    text = "".join(lines)
    assert text.count(" +--- This exception occurred remotely (Pyro) - Remote traceback:\n | Traceback") == 1
    assert text.endswith("\n +--- End of remote traceback\n")
    try:
        proxy.fail("builtin")
    except KeyError:
        assert "Remote traceback" in "".join(pyro.traceback())
    with pytest.raises(TypeError, match="invalid argument: ex_type should be an exception type"):
        pyro.traceback("KeyError")


def test_pyros_own_exceptions_arrive_as_what_they_are(pyro: Any, serve: Any) -> None:
    with pytest.raises(pyro.errors.NamingError, match="from the method"):
        pyro.Proxy(serve(echo(pyro))).fail("pyro")
    error = pyro.errors
    assert issubclass(error.SerializeError, error.ProtocolError)
    assert issubclass(error.MessageTooLargeError, error.ProtocolError)
    for name in ("ConnectionClosedError", "TimeoutError", "ProtocolError"):
        assert issubclass(getattr(error, name), error.CommunicationError)
    for name in ("CommunicationError", "NamingError", "DaemonError", "SecurityError"):
        assert issubclass(getattr(error, name), error.PyroError)
    assert not issubclass(error.TimeoutError, TimeoutError)


def test_groups_of_unknown_classes_keep_their_members(pyro: Any, serve: Any) -> None:
    with pytest.raises(pyro.errors.SerializeError, match=r"unsupported serialized class: .*Several: several") as raised:
        pyro.Proxy(serve(echo(pyro))).fail("group")
    assert isinstance(raised.value, ExceptionGroup)
    assert [type(member).__name__ for member in raised.value.exceptions] == ["KeyError", "RemoteError"]


def test_wrong_arguments_are_type_errors(pyro: Any, serve: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        pyro.Proxy(serve(echo(pyro))).echo(1, 2, 3)


def test_an_excepthook(pyro: Any, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hook = Pyro4.util.excepthook if pyro.name == "Pyro4" else Pyro5.errors.excepthook
    with pytest.raises(KeyError) as raised:
        pyro.Proxy(serve(echo(pyro))).fail("builtin")
    hook(raised.type, raised.value, raised.tb)
    assert capsys.readouterr().err.count("Remote traceback") == 1


def test_detailed_tracebacks_show_variables(pyro: Any) -> None:
    pyro.config.DETAILED_TRACEBACK = True
    try:
        local_name = "its value"
        raise ValueError(local_name)
    except ValueError:
        text = "".join(pyro.traceback())
    assert "Extended stacktrace follows (most recent call last)" in text
    assert "local_name = 'its value'" in text
