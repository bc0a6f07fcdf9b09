"""Pyro's exceptions, what those of the broker become, and remote tracebacks in Pyro's form."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from broker import errors, register_type
from broker.compat.configuration import config

_BECOMES: dict[type[errors.BrokerError], tuple[Any, str]] = {}


def _error(base: type[Exception], stands_for: type[errors.BrokerError], text: str = "{}", name: str = "") -> Any:
    """An exception, which takes the place of one of the broker's. Programs compare the texts."""
    name = name or stands_for.__name__
    error = type(name, (base,), {"__doc__": stands_for.__doc__, "__module__": __name__})
    _BECOMES[stands_for] = error, text
    return register_type(error, name=f"Pyro.errors.{name}")


PyroError = _error(Exception, errors.BrokerError, name="PyroError")
CommunicationError = _error(PyroError, errors.CommunicationError)
ConnectionClosedError = _error(CommunicationError, errors.ConnectionClosedError, "receiving: not enough data")
TimeoutError = _error(CommunicationError, errors.CallTimeout, "receiving: timeout", "TimeoutError")  # noqa: A001
ProtocolError = _error(CommunicationError, errors.ProtocolError)
MessageTooLargeError = _error(ProtocolError, errors.MessageTooLargeError, "message too large ({})")
SerializeError = _error(ProtocolError, errors.CodecError, name="SerializeError")
NamingError = _error(PyroError, errors.NamingError)
DaemonError = _error(PyroError, errors.DaemonError)
SecurityError = _error(PyroError, errors.AccessDenied, "{reason}", "SecurityError")
_BECOMES[errors.CannotConnect] = CommunicationError, "cannot connect to {where}: {reason}"
_BECOMES[errors.ObjectNotFound] = DaemonError, "unknown object"
_BECOMES[errors.Overloaded] = CommunicationError, "no free workers, increase server threadpool size ({})"
# What `register_dict_to_class` registered, by the names of the classes.
makers: dict[str, Callable[[str, dict[str, Any]], object]] = {}


def refuse(wrong: object, error: type[BaseException], text: str) -> None:
    """Raises the error, with Pyro's text, if it is true that something is wrong."""
    if wrong:
        raise error(text)


def unsupported(given: object, text: str) -> None:
    """Raises NotImplementedError if an argument was given that means nothing here; the text says what to use."""
    refuse(given is not None, NotImplementedError, text)


@contextlib.contextmanager
def translating(where: object = "the daemon") -> Iterator[None]:
    """Has the errors of the broker leave a block as what they are to a Pyro program."""
    try:
        yield
    except BaseException as error:
        changed = translated(error, where)
        if changed is error:
            raise
        raise changed from None


def translated(error: BaseException, where: object = "the daemon") -> BaseException:
    """What a Pyro program gets in place of an error of the broker; any other error as it is.

    Where it came from elsewhere, its `_pyroTraceback` holds the lines of the remote traceback. `where` is the address.
    """
    lines = errors.get_remote_traceback(error).splitlines(keepends=True)
    if isinstance(error, errors.RemoteError):
        error = _of_unknown_class(error)
    elif isinstance(error, errors.BrokerError):
        becomes, text = next(_BECOMES[kind] for kind in type(error).__mro__ if kind in _BECOMES)
        said = str(error)
        reason = said.partition(": ")[2] or said
        error = becomes(text.format(said, where=where, reason=reason))
        if reason not in str(error):  # what the broker says is shown below
            error.add_note(said)
    if lines:
        error._pyroTraceback = lines  # type: ignore[attr-defined]
    return error


def _of_unknown_class(error: errors.RemoteError) -> Any:
    """What a registered function makes of it; else a SerializeError that still is what the original derives from."""
    make = makers.get(error.type)
    made: Any = make(error.type, as_dict(error)) if make is not None else None
    if not isinstance(made, BaseException):
        kind: Any = type("SerializeError", (SerializeError, type(error)), {"__module__": SerializeError.__module__})
        made = kind.__new__(kind, f"unsupported serialized class: {error.type}: {error}", *error.args[1:])
        made.type = error.type
    made.__notes__ = [*getattr(error, "__notes__", ())]
    return made


def as_dict(error: BaseException) -> dict[str, Any]:
    """An exception as Pyro takes it apart."""
    held = {name: value for name, value in vars(error).items() if not name.startswith("_") and name != "type"}
    name = getattr(error, "type", "") or f"{type(error).__module__}.{type(error).__name__}"
    args = vars(error).get("_remote_args", error.args)
    return {"__class__": name, "__exception__": True, "args": args, "attributes": held}


# ---- tracebacks

_REMOTE = " +--- This exception occurred remotely"


def format_traceback(ex_type: Any = None, ex_value: Any = None, ex_tb: Any = None, detailed: bool = False) -> list[str]:
    """The lines of a traceback as Python prints it; `detailed` with the local variables of each frame."""
    if ex_type is None and ex_tb is None:
        ex_type, ex_value, ex_tb = sys.exc_info()
    formatted = traceback.TracebackException(ex_type, ex_value, ex_tb, capture_locals=detailed)
    notes = getattr(formatted, "__notes__", None) or ()
    formatted.__notes__ = [note for note in notes if not str(note).startswith(_REMOTE)] or None  # it is shown below
    lines, head = list(formatted.format()), f" EXCEPTION {ex_type}: {ex_value}\n"
    return [head, " Extended stacktrace follows (most recent call last)\n", *lines, head] if detailed else lines


def get_pyro_traceback(ex_type: Any = None, ex_value: Any = None, ex_tb: Any = None) -> list[str]:
    """The lines of a traceback, and those of the remote one if there is any. Without arguments: of what is caught."""
    if not isinstance(ex_type, type | None):
        raise TypeError("invalid argument: ex_type should be an exception type, or just supply no arguments at all")
    lines = format_traceback(ex_type, ex_value, ex_tb, config.DETAILED_TRACEBACK)
    error = sys.exc_info()[1] if ex_type is None and ex_tb is None else ex_value
    if remote := "".join(map(str, getattr(error, "_pyroTraceback", None) or ())).splitlines():
        lines.append(f"{_REMOTE} (Pyro) - Remote traceback:")
        lines += [*(f"\n | {line}" for line in remote), "\n +--- End of remote traceback\n"]
    return lines


def excepthook(kind: type[BaseException], error: BaseException, tb: Any) -> None:
    """A `sys.excepthook` that prints remote tracebacks too."""
    sys.stderr.write("".join(get_pyro_traceback(kind, error, tb)))
