"""Pyro's exceptions, what those of the broker become, and remote tracebacks in Pyro's form."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from broker import errors, register_type
from broker.compat.configuration import config


def _error(name: str, base: type[Exception], means: str) -> Any:
    error = type(name, (base,), {"__doc__": means, "__module__": __name__})
    register_type(error, name=f"Pyro.errors.{name}")
    return error


PyroError = _error("PyroError", Exception, "The base of all errors of Pyro.")
CommunicationError = _error("CommunicationError", PyroError, "The other side could not be reached, or was lost.")
ConnectionClosedError = _error("ConnectionClosedError", CommunicationError, "The connection was lost.")
TimeoutError = _error("TimeoutError", CommunicationError, "A call took longer than its timeout.")  # noqa: A001
ProtocolError = _error("ProtocolError", CommunicationError, "The other side sent what it must not send.")
MessageTooLargeError = _error("MessageTooLargeError", ProtocolError, "A value is larger than a side accepts.")
SerializeError = _error("SerializeError", ProtocolError, "A value cannot be serialized, or made of what arrived.")
NamingError = _error("NamingError", PyroError, "The name server is not there, or cannot do what it was asked to do.")
DaemonError = _error("DaemonError", PyroError, "A daemon cannot do what it was asked to do.")
SecurityError = _error("SecurityError", PyroError, "Somebody may not do this.")

# The nearest base comes first. Programs compare the texts; what the broker says is shown below them.
_BECOMES: tuple[tuple[type[errors.BrokerError], Any, str], ...] = (
    (errors.CallTimeout, TimeoutError, "receiving: timeout"),
    (errors.CannotConnect, CommunicationError, "cannot connect to {where}: {}"),
    (errors.ConnectionClosedError, ConnectionClosedError, "receiving: not enough data"),
    (errors.MessageTooLargeError, MessageTooLargeError, "message too large ({})"),
    (errors.ProtocolError, ProtocolError, "{}"),
    (errors.CommunicationError, CommunicationError, "{}"),
    (errors.CodecError, SerializeError, "{}"),
    (errors.ObjectNotFound, DaemonError, "unknown object"),
    (errors.DaemonError, DaemonError, "{}"),
    (errors.AccessDenied, SecurityError, "{}"),
    (errors.Overloaded, CommunicationError, "no free workers, increase server threadpool size ({})"),
    (errors.NamingError, NamingError, "{}"),
    (errors.BrokerError, PyroError, "{}"),
)
makers: dict[str, Callable[[str, dict[str, Any]], object]] = {}
"""What `register_dict_to_class` registered, by the names of the classes."""
_unknown_classes: dict[type, Any] = {}


def translated(error: BaseException, where: object = "the daemon") -> BaseException:
    """What a Pyro program gets in place of an error of the broker; any other error as it is.

    Where it came from elsewhere, its `_pyroTraceback` holds the lines of the remote traceback. `where` is the address.
    """
    lines = errors.get_remote_traceback(error).splitlines(keepends=True)
    if isinstance(error, errors.RemoteError):
        error = _of_unknown_class(error)
    elif isinstance(error, errors.BrokerError):
        becomes, text = next((new, text) for old, new, text in _BECOMES if isinstance(error, old))
        said = str(error).partition(": ")[2] if "{where}" in text else str(error)
        error = becomes(text.format(said, where=where))
        if said not in str(error):
            error.add_note(said)
    if lines:
        error._pyroTraceback = lines  # type: ignore[attr-defined]
    return error


def _of_unknown_class(error: errors.RemoteError) -> Any:
    """What a registered function makes of it; else a SerializeError that still is what the original derives from."""
    make = makers.get(error.type)
    made: Any = make(error.type, as_dict(error)) if make is not None else None
    if not isinstance(made, BaseException):
        kind = type(error)
        if kind not in _unknown_classes:
            namespace = {"__module__": SerializeError.__module__, "__str__": lambda error: str(error.args[0])}
            _unknown_classes[kind] = type("SerializeError", (SerializeError, kind), namespace)
        made = _unknown_classes[kind].__new__(_unknown_classes[kind])
        made.args = (f"unsupported serialized class: {error.type}: {error}",)
        made.type = error.type
    made.__cause__ = error.__cause__
    for note in getattr(error, "__notes__", ()):
        made.add_note(note)
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
    notes = [note for note in getattr(formatted, "__notes__", None) or () if not str(note).startswith(_REMOTE)]
    formatted.__notes__ = notes or None  # what is shown below is not shown twice
    lines = list(formatted.format())
    head = f" EXCEPTION {ex_type}: {ex_value}\n"
    return [head, " Extended stacktrace follows (most recent call last)\n", *lines, head] if detailed else lines


def get_pyro_traceback(ex_type: Any = None, ex_value: Any = None, ex_tb: Any = None) -> list[str]:
    """The lines of a traceback, and those of the remote one if there is any. Without arguments: of what is caught."""
    if ex_type is not None and ex_value is None and ex_tb is None and not isinstance(ex_type, type):
        raise TypeError("invalid argument: ex_type should be an exception type, or just supply no arguments at all")
    if ex_type is None and ex_tb is None:
        ex_type, ex_value, ex_tb = sys.exc_info()
    lines = format_traceback(ex_type, ex_value, ex_tb, config.DETAILED_TRACEBACK)
    remote: Any = getattr(ex_value, "_pyroTraceback", None)
    if remote:
        lines.append(f"{_REMOTE} (Pyro) - Remote traceback:")
        lines += [f"\n | {line}" for text in remote for line in str(text).removesuffix("\n").split("\n")]
        lines.append("\n +--- End of remote traceback\n")
    return lines


def excepthook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """A `sys.excepthook` that prints remote tracebacks too."""
    sys.stderr.write("".join(get_pyro_traceback(kind, error, tb)))
