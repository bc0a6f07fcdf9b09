"""Exceptions: as the same class when it is known, else as RemoteError that `except` clauses still catch."""

from __future__ import annotations

import asyncio
import concurrent.futures
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from broker import errors
from broker.codecs import PlainEdge, TypeRegistry, codec
from broker.codecs.interface import Codec, Encoded
from broker.errors import RemoteError, format_remote_traceback, get_remote_traceback


class OutOfStock(ValueError):
    def __init__(self, item: str, count: int) -> None:
        super().__init__(f"no {item}")
        self.item = item
        self.count = count


class Odd(OSError):
    def __init__(self, code: int) -> None:
        super().__init__(code, "odd", "/dev/odd")


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Abort(BaseException):
    pass


class Falsy(Exception):
    def __bool__(self) -> bool:
        raise AssertionError("nobody may ask")


class Silent:
    def __reduce__(self) -> Any:
        raise TypeError("no pickle")

    def __repr__(self) -> str:
        return "<silent>"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.fixture(params=["json", "pickle"])
def travel(request: pytest.FixtureRequest) -> Callable[..., Any]:
    used: Codec = codec(request.param)

    def travel(error: object, *known: type, tracebacks: bool = True) -> Any:
        types = TypeRegistry()
        for cls in known:
            types.register(cls)
        edge = PlainEdge(types, format_remote_traceback if tracebacks else None)
        return used.decode(used.encode(error, edge), edge)

    return travel


BUILTINS: list[Exception] = [
    ValueError("list.remove(x): x not in list"),
    KeyError("k"),
    FileNotFoundError(2, "No such file or directory", "/x"),
    OSError("only a text"),
    BlockingIOError(11, "busy", 5),
    TimeoutError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"),
    SyntaxError("bad", ("f.py", 1, 2, "x = ", 1, 3)),
    ImportError("no", name="m", path="p"),
    AttributeError("a", name="n", obj=object()),
    StopAsyncIteration(1),
    ZeroDivisionError(),
    UserWarning("w"),
    Exception(1, (2, b"3")),
    ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [TypeError("t"), KeyError("k")])]),
]


@pytest.mark.parametrize("error", BUILTINS, ids=repr)
def test_builtin_exceptions(travel: Callable[..., Any], error: Exception) -> None:
    read = travel(raised(error))
    assert type(read) is type(error)
    assert repr(read) == repr(error)
    assert str(read) == str(error)
    assert read.args == error.args or isinstance(error, ExceptionGroup)
    for name in ("errno", "filename", "characters_written", "lineno", "text", "name", "path", "object", "end"):
        assert getattr(read, name, None) == getattr(error, name, None)


def test_a_known_class_is_rebuilt_without_its_init(travel: Callable[..., Any]) -> None:
    read = travel(raised(OutOfStock("couch", 3)), OutOfStock)
    assert type(read) is OutOfStock
    assert (str(read), read.args, read.item, read.count) == ("no couch", ("no couch",), "couch", 3)
    read = travel(raised(Odd(5)), Odd)
    assert type(read) is Odd
    assert (read.errno, read.filename, str(read)) == (5, "/dev/odd", "[Errno 5] odd: '/dev/odd'")


def test_an_unknown_class_is_a_remote_error_and_its_builtin_base() -> None:
    json, nothing = codec("json"), PlainEdge(TypeRegistry())
    read: Any = json.decode(json.encode(raised(OutOfStock("couch", 3)), nothing), nothing)
    assert isinstance(read, RemoteError)
    assert read.type == f"{__name__}.OutOfStock"
    assert str(read) == "no couch"
    assert vars(read)["item"] == "couch"
    assert read.may_have_run
    assert isinstance(read, ValueError)


def test_a_remote_error_that_is_passed_on_keeps_its_type(travel: Callable[..., Any]) -> None:
    json, nothing = codec("json"), PlainEdge(TypeRegistry())
    middle: Any = json.decode(json.encode(raised(OutOfStock("couch", 3)), nothing), nothing)
    again = travel(raised(middle))
    assert isinstance(again, RemoteError)
    assert isinstance(again, ValueError)
    assert again.type == f"{__name__}.OutOfStock"
    assert str(again) == "no couch"
    known = travel(raised(middle), OutOfStock)
    assert type(known) is OutOfStock
    assert (known.args, known.item, known.count) == (("no couch",), "couch", 3)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        StopIteration(4),
        asyncio.CancelledError("c"),
        concurrent.futures.CancelledError(),
        Abort("a"),
        BaseExceptionGroup("b", [KeyboardInterrupt()]),
    ],
    ids=repr,
)
def test_what_would_kill_or_mislead_the_caller_is_a_remote_error(
    travel: Callable[..., Any], error: BaseException
) -> None:
    read = travel(raised(error), *([Abort] if isinstance(error, Abort) else []))
    assert type(read) is RemoteError
    assert read.type.rpartition(".")[2] == type(error).__qualname__


class Stop(StopIteration):
    pass


def test_a_class_derived_from_stop_iteration(travel: Callable[..., Any]) -> None:
    read = travel(Stop(1), Stop)
    assert type(read) is RemoteError


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name[0].isupper() and name != "RemoteError"])
def test_the_brokers_own_errors_speak_of_their_own_call(travel: Callable[..., Any], name: str) -> None:
    cls = getattr(errors, name)
    read = travel(raised(cls("nested")))
    if issubclass(cls, errors.NamingError):
        assert type(read) is cls
    else:
        assert isinstance(read, RemoteError)
        assert read.type == f"broker.errors.{name}"
        assert not isinstance(read, cls) or cls is errors.BrokerError
        assert isinstance(read, TimeoutError) == issubclass(cls, TimeoutError)
    assert str(read) == "nested"


def test_cause_context_and_notes(travel: Callable[..., Any]) -> None:
    cause = KeyError("couch")
    cause.add_note("of the cause")
    error = ValueError("x")
    error.add_note("of the error")
    read = travel(raised(error, cause))
    assert repr(read.__cause__) == "KeyError('couch')"
    assert read.__cause__.__notes__ == ["of the cause"]
    assert read.__suppress_context__
    assert read.__notes__[0] == "of the error"
    error = ValueError("x")
    error.__context__ = cause
    read = travel(error)
    assert read.__cause__ is None
    assert repr(read.__context__) == "KeyError('couch')"
    assert not read.__suppress_context__


def test_chains_are_followed_eight_deep(travel: Callable[..., Any]) -> None:
    error: BaseException | None = None
    for i in range(30):
        outer = ValueError(i)
        outer.__cause__ = error
        error = outer
    read, depth = travel(error), 0
    while read is not None:
        read, depth = read.__cause__, depth + 1
    assert depth == 9


def test_groups_are_followed_eight_deep(travel: Callable[..., Any]) -> None:
    error: Exception = ValueError("leaf")
    for i in range(30):
        error = ExceptionGroup(f"g{i}", [error])
    read, names = travel(error), []
    while isinstance(read, ExceptionGroup):
        names.append(read.message)
        (read,) = read.exceptions
    assert names[:8] == [f"g{i}" for i in range(29, 21, -1)]
    assert str(read).startswith("g")


def test_an_unknown_group_is_a_group_still() -> None:
    class Many(ExceptionGroup[ValueError]):
        pass

    json, nothing = codec("json"), PlainEdge(TypeRegistry())
    read = json.decode(json.encode(Many("many", [ValueError(1)]), nothing), nothing)
    assert isinstance(read, RemoteError)
    assert isinstance(read, ExceptionGroup)
    assert str(read) == "many"
    assert repr(read.exceptions) == "(ValueError(1),)"


def test_the_remote_traceback_is_attached(travel: Callable[..., Any]) -> None:
    read = travel(raised(ValueError("x"), KeyError("k")))
    text = get_remote_traceback(read)
    assert text.startswith("KeyError: 'k'\n\nThe above exception was the direct cause")
    assert text.endswith("ValueError: x")
    assert "in raised" in text
    assert get_remote_traceback(read.__cause__) == ""
    shown = "".join(traceback.format_exception(read))
    assert shown.count("This exception occurred remotely (broker)") == 1
    assert get_remote_traceback(travel(raised(ValueError("x")), tracebacks=False)) == ""
    assert get_remote_traceback(travel(ValueError("a value, never raised"))) == ""


def test_over_two_hops_the_traceback_is_shown_once(travel: Callable[..., Any]) -> None:
    middle = raised(travel(raised(ValueError("x"))))
    read = travel(middle)
    shown = "".join(traceback.format_exception(read))
    assert shown.count("This exception occurred remotely (broker)") == 2  # one inside the other
    assert len(read.__notes__) == 1
    assert travel(middle, tracebacks=False).args == ("x",)
    assert not hasattr(travel(middle, tracebacks=False), "__notes__")


def test_what_cannot_be_encoded_never_hides_the_message(travel: Callable[..., Any]) -> None:
    error = ValueError("out of paper", Silent(), lambda: 1)
    error.printer = Silent()  # type: ignore[attr-defined]
    error.copies = 3  # type: ignore[attr-defined]
    read = travel(raised(error))
    assert type(read) is ValueError
    assert read.args[0] == "out of paper"
    assert read.args[1] in ("<silent>", "<test_exceptions.Silent object>") or "Silent" in read.args[1]
    assert "<lambda>" in read.args[2]
    assert vars(read)["copies"] == 3
    assert isinstance(vars(read)["printer"], str)


def test_a_broken_str_or_repr(travel: Callable[..., Any]) -> None:
    read = travel(raised(Broken(Broken())), tracebacks=False)
    assert isinstance(read, Exception)
    nested = travel(raised(ValueError(Falsy("f"))))
    assert type(nested) is ValueError
    outer = ValueError("outer")
    outer.__cause__ = Falsy("inner")
    assert travel(outer).__cause__.args == ("inner",)


def test_an_exception_as_a_value(travel: Callable[..., Any]) -> None:
    read = travel({"failed": [ValueError(1)], "group": ExceptionGroup("g", [KeyError("k")])})
    assert repr(read) == "{'failed': [ValueError(1)], 'group': ExceptionGroup('g', [KeyError('k')])}"


def test_functions_of_a_registered_exception() -> None:
    types = TypeRegistry()
    types.register(
        OutOfStock,
        name="shop.OutOfStock",
        to_dict=lambda error: {"item": error.item, "count": error.count},
        from_dict=lambda fields: OutOfStock(**fields),
    )
    json, edge = codec("json"), PlainEdge(types)
    read: Any = json.decode(json.encode(OutOfStock("couch", 3), edge), edge)
    assert (type(read), read.item, read.count) == (OutOfStock, "couch", 3)
    read = json.decode(json.encode(OutOfStock("couch", 3), edge), PlainEdge(TypeRegistry()))
    assert (read.type, str(read), read.item) == ("shop.OutOfStock", "no couch", "couch")


def test_a_class_that_cannot_be_rebuilt_is_a_remote_error() -> None:
    types = TypeRegistry()

    def refuse(fields: dict[str, Any]) -> Any:
        raise KeyError("no")

    types.register(OutOfStock, name="shop.OutOfStock", to_dict=vars, from_dict=refuse)
    json, edge = codec("json"), PlainEdge(types)
    read: Any = json.decode(json.encode(OutOfStock("couch", 3), edge), edge)
    assert isinstance(read, RemoteError)
    assert isinstance(read, ValueError)
    assert (read.type, str(read)) == ("shop.OutOfStock", "no couch")


def test_attributes_that_mean_harm() -> None:
    text = (
        '{"$type":"exception","class":"ValueError","base":"ValueError","message":"m","args":["m"],'
        '"attributes":{"__class__":"x","__traceback__":"y","__dict__":"z","args":[],"with_traceback":1,"fine":2}}'
    )
    read: Any = codec("json").decode(Encoded("json", text.encode()), PlainEdge(TypeRegistry()))
    assert type(read) is ValueError
    assert read.__traceback__ is None
    assert vars(read)["fine"] == 2
    text = text.replace('"class":"ValueError"', '"class":"a.B"').replace('"fine"', '"type":"q","may_have_run":0,"fine"')
    read = codec("json").decode(Encoded("json", text.encode()), PlainEdge(TypeRegistry()))
    assert (read.type, read.may_have_run, read.args, read.fine) == ("a.B", True, ("m",), 2)
