"""The tree of errors, and remote tracebacks."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable

import pytest

from broker import errors
from broker.errors import attach_remote_traceback, format_remote_traceback, get_remote_traceback, remote_error
from broker.uri import URI

TREE: dict[str, tuple[type[BaseException], ...]] = {
    "BrokerError": (Exception,),
    "CommunicationError": (errors.BrokerError,),
    "CannotConnect": (errors.CommunicationError,),
    "ConnectionClosedError": (errors.CommunicationError,),
    "CallTimeout": (errors.CommunicationError, TimeoutError),
    "ProtocolError": (errors.CommunicationError,),
    "MessageTooLargeError": (errors.ProtocolError,),
    "CodecError": (errors.BrokerError,),
    "DaemonError": (errors.BrokerError,),
    "ObjectNotFound": (errors.DaemonError,),
    "AccessDenied": (errors.BrokerError,),
    "Overloaded": (errors.BrokerError,),
    "NamingError": (errors.BrokerError,),
    "NameNotFound": (errors.NamingError,),
    "NameTaken": (errors.NamingError,),
    "RemoteError": (errors.BrokerError,),
}
MAY_HAVE_RUN = {"ConnectionClosedError", "CallTimeout", "RemoteError"}


# ---- the tree


def test_the_tree_is_whole() -> None:
    classes = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}
    ours = {name: kind.__bases__ for name, kind in classes.items() if issubclass(kind, errors.BrokerError)}
    assert ours == TREE
    assert set(TREE) <= set(errors.__all__)


@pytest.mark.parametrize("name", TREE)
def test_every_error_says_whether_the_method_may_have_run(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.may_have_run is (name in MAY_HAVE_RUN)


@pytest.mark.parametrize("name", TREE)
def test_every_error_can_be_copied_and_pickled(name: str) -> None:
    error = getattr(errors, name)("no couch")
    error.may_have_run = True
    error.add_note("a note")
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert str(same) == "no couch"
        assert same.may_have_run is True
        assert same.__notes__ == ["a note"]


# ---- RemoteError

BUILTINS_THAT_COMBINE = [ValueError, KeyError, LookupError, OSError, TimeoutError, UnicodeDecodeError, ArithmeticError]


@pytest.mark.parametrize("base", BUILTINS_THAT_COMBINE)
def test_a_remote_error_is_caught_as_the_builtin_that_its_class_derives_from(base: type[Exception]) -> None:
    error = remote_error("shop.OutOfStock", "no couch", base)
    assert isinstance(error, base)
    assert isinstance(error, errors.RemoteError)
    assert error.type == "shop.OutOfStock"
    assert str(error) == "no couch"
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert (same.type, same.args) == ("shop.OutOfStock", ("no couch",))


@pytest.mark.parametrize("base", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration])
def test_a_remote_error_never_is_what_ends_loops_or_processes(base: type[BaseException]) -> None:
    error = remote_error(base.__name__, "enough", base)
    assert type(error) is errors.RemoteError
    assert not isinstance(error, base)
    assert str(error) == "enough"


def test_a_remote_error_of_a_group_is_a_group_if_its_members_are_known() -> None:
    assert type(remote_error("shop.Several", "two", ExceptionGroup)) is errors.RemoteError
    error = remote_error("shop.Several", "two", ExceptionGroup, [ValueError("one"), KeyError("other")])
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error, errors.RemoteError)
    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert same.type == "shop.Several"
        assert [type(member) for member in same.exceptions] == [ValueError, KeyError]


# ---- remote tracebacks


def take() -> None:
    raise ValueError("list.remove(x): x not in list")


def asked_wrongly() -> None:
    URI("no uri")


def caught(function: Callable[..., object], *arguments: object) -> Exception:
    """What the function raises, with a traceback that begins in it."""
    with pytest.raises(Exception) as info:  # noqa: PT011 -- whatever it is, the caller looks at it
        function(*arguments)
    error, code = info.value, getattr(function, "__code__", None)
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code is not code:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def test_the_note_has_the_form_of_the_manual() -> None:
    error = caught(take)
    text = format_remote_traceback(error)
    attach_remote_traceback(error, text)
    line = take.__code__.co_firstlineno + 1
    note = (
        " +--- This exception occurred remotely (broker) - Remote traceback:\n"
        " | Traceback (most recent call last):\n"
        f' |   File "{__file__}", line {line}, in take\n'
        ' |     raise ValueError("list.remove(x): x not in list")\n'
        " | ValueError: list.remove(x): x not in list\n"
        " +--- End of remote traceback"
    )
    assert error.__notes__ == [note]
    assert get_remote_traceback(error) == text
    assert note in "".join(traceback.format_exception(error))


def test_frames_of_the_broker_are_cut() -> None:
    text = format_remote_traceback(caught(asked_wrongly))
    assert "in asked_wrongly" in text
    assert "uri.py" not in text.replace("test_uri.py", "")
    assert text.endswith("BROKERMETA:<tag>,<tag>[@<host>[:<port>]]")


def test_frames_of_the_broker_are_cut_from_causes_contexts_and_groups() -> None:
    def with_cause() -> None:
        try:
            asked_wrongly()
        except ValueError as error:
            raise KeyError("cause") from error

    def with_context() -> None:
        try:
            with_cause()
        except KeyError as error:
            raise ExceptionGroup("several", [error, caught(asked_wrongly)])  # noqa: B904 -- the context is the point

    text = format_remote_traceback(caught(with_context))
    assert text.count("in asked_wrongly") == 2  # the cause of the first member, and the second
    assert "The above exception was the direct cause" in text
    assert "broker/uri.py" not in text


def test_an_exception_without_a_traceback_of_its_own_still_has_its_line() -> None:
    assert format_remote_traceback(ValueError("two\nlines")) == "ValueError: two\nlines"
    assert format_remote_traceback(caught(URI.__init__, None, "no uri")).startswith(
        "broker.uri.InvalidURI: 'no uri' is"
    )


def test_a_traceback_from_two_servers_away_is_shown_once() -> None:
    error = caught(take)
    error.add_note("from the user")
    attach_remote_traceback(error, "far")
    attach_remote_traceback(error, format_remote_traceback(error))
    assert get_remote_traceback(error).count("far") == 1
    assert len(error.__notes__) == 2
    assert error.__notes__[0] == "from the user"


@pytest.mark.parametrize("text", ["one", "a\n\nb", "  indented\n   | bar", "\x0c form feed\u2028and more ", " "])
def test_what_was_attached_comes_back(text: str) -> None:
    error = ValueError("x")
    attach_remote_traceback(error, text)
    assert get_remote_traceback(error) == text


def test_without_a_remote_traceback_there_is_none() -> None:
    error = ValueError("x")
    attach_remote_traceback(error, "")
    assert not hasattr(error, "__notes__")
    assert get_remote_traceback(error) == ""
    error.add_note("an ordinary note")
    assert get_remote_traceback(error) == ""


def test_an_exception_whose_notes_are_no_list_is_left_in_peace() -> None:
    error = ValueError("x")
    error.__notes__ = None  # type: ignore[assignment]
    assert get_remote_traceback(error) == ""


@pytest.mark.parametrize("hook", ["", "sys.excepthook = broker.errors.excepthook;"])
def test_it_is_displayed_once_with_and_without_the_hook(hook: str) -> None:
    program = (
        f"import sys, broker.errors; {hook}\n"
        "error = ValueError('no couch')\n"
        "broker.errors.attach_remote_traceback(error, 'Traceback: far away')\n"
        "raise error\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(" | Traceback: far away") == 1
    assert done.stderr.count("ValueError: no couch") == 1


def test_a_very_long_traceback_keeps_its_ends() -> None:
    error = ValueError("deep")
    error.add_note("\n".join(f"line {number}" for number in range(1000)))
    text = errors.format_remote_traceback(error)
    assert text.startswith("ValueError: deep\nline 0\n")
    assert text.endswith("line 999")
    assert "lines are left out" in text
    assert len(text.splitlines()) == 301
