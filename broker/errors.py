"""Every error of the broker, and the remote traceback that travels with an exception.

Nothing of ours is imported here, so that every other module can raise these.

    BrokerError                       .may_have_run
    ├── CommunicationError            could not reach, or lost, the other side
    │   ├── CannotConnect             nothing was executed
    │   ├── ConnectionClosedError     lost with this call under way: it may have run
    │   ├── CallTimeout               also a builtin TimeoutError; it may have run
    │   └── ProtocolError ── MessageTooLargeError
    ├── CodecError                    a value that cannot be encoded or decoded, with the path to it
    ├── DaemonError ── ObjectNotFound
    ├── AccessDenied                  authentication or authorization
    ├── Overloaded                    a limit was reached; nothing was executed
    ├── NamingError ── NameNotFound, NameTaken
    └── RemoteError                   the method raised a class this process does not know
"""

from __future__ import annotations

import builtins
import sys
import traceback
from types import TracebackType

__all__ = [
    "AccessDenied",
    "BrokerError",
    "CallTimeout",
    "CannotConnect",
    "CodecError",
    "CommunicationError",
    "ConnectionClosedError",
    "DaemonError",
    "MessageTooLargeError",
    "NameNotFound",
    "NameTaken",
    "NamingError",
    "ObjectNotFound",
    "Overloaded",
    "ProtocolError",
    "RemoteError",
    "attach_remote_traceback",
    "excepthook",
    "format_remote_traceback",
    "get_remote_traceback",
]


class BrokerError(Exception):
    """The base of every error that the broker itself raises."""

    may_have_run: bool = False
    """Whether the method may have been executed although the caller got this error."""


class CommunicationError(BrokerError):
    """The other side could not be reached, or was lost."""


class CannotConnect(CommunicationError):
    """No connection came about; nothing was executed."""


class ConnectionClosedError(CommunicationError):
    """The connection was lost with this call under way."""

    may_have_run = True


class CallTimeout(CommunicationError, TimeoutError):
    """The time of the call ran out. The method may still be running."""

    may_have_run = True


class ProtocolError(CommunicationError):
    """The other side sent what it must not send, or is not a broker at all."""


class MessageTooLargeError(ProtocolError):
    """A value is larger than a side accepts."""


class CodecError(BrokerError):
    """A value that cannot be encoded or decoded. The message names the path to it."""


class DaemonError(BrokerError):
    """A daemon cannot do what it was asked to do."""


class ObjectNotFound(DaemonError):
    """The daemon has no object of that id or name."""


class AccessDenied(BrokerError):
    """The caller is not known, or may not do this."""


class Overloaded(BrokerError):
    """A limit was reached; nothing was executed."""


class NamingError(BrokerError):
    """The name server cannot be found, or cannot do what it was asked to do."""


class NameNotFound(NamingError):
    """The name server does not know the name."""


class NameTaken(NamingError):
    """The name belongs to another object."""


class RemoteError(BrokerError):
    """The method raised an exception whose class this process does not know, or must not raise.

    `type` is the name of the class as `module.name` (a bare name for a builtin). Where the class derives from a
    builtin exception, the error is an instance of that one too, so that `except ValueError` catches an unknown
    `OutOfStock(ValueError)`.
    """

    may_have_run = True
    type: str = ""


_BEGIN = " +--- This exception occurred remotely (broker) - Remote traceback:"
_END = " +--- End of remote traceback"
_OWN_FRAMES = f"{__name__.rpartition('.')[0]}."


def _is_own(tb: TracebackType) -> bool:
    module = tb.tb_frame.f_globals.get("__name__", "")
    return bool(module.startswith(_OWN_FRAMES))


def _without_own_frames(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not the broker's."""
    while tb is not None and _is_own(tb):
        tb = tb.tb_next
    return tb


def format_remote_traceback(error: BaseException) -> str:
    """Formats an exception for its caller: as Python prints it, without the broker's own frames.

    Causes, contexts and groups are included. Returns the text without a final newline.
    """
    return "".join(
        traceback.format_exception(type(error), error, _without_own_frames(error.__traceback__))
    ).rstrip("\n")


def attach_remote_traceback(error: BaseException, text: str) -> None:
    """Adds a remote traceback to an exception as a note, so that Python's own display shows it."""
    if text:
        lines = "\n".join(f" | {line}" for line in text.splitlines())
        error.add_note(f"{_BEGIN}\n{lines}\n{_END}")


def get_remote_traceback(error: BaseException) -> str:
    """The remote traceback of an exception as the other side printed it, or an empty string if it has none."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str) and note.startswith(_BEGIN):
            return "\n".join(line.removeprefix(" | ") for line in note.splitlines()[1:-1])
    return ""


def excepthook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """A `sys.excepthook` that prints an exception with its remote traceback, once.

    Python's own hook shows the remote traceback too; this one is for those who install hooks::

        sys.excepthook = broker.errors.excepthook
    """
    sys.stderr.write("".join(traceback.format_exception(kind, error, tb)))


_REMOTE_CLASSES: dict[type[BaseException], type[RemoteError]] = {}


def remote_error(type_name: str, message: str, base: type[BaseException] = Exception) -> RemoteError:
    """Makes the `RemoteError` of an unknown class that derives from the builtin exception `base`."""
    kind = _REMOTE_CLASSES.get(base)
    if kind is None:
        kind = _REMOTE_CLASSES[base] = _remote_class(base)
    error = kind.__new__(kind)
    error.args = (message,)
    error.type = type_name
    return error


def _remote_class(base: type[BaseException]) -> type[RemoteError]:
    if base is Exception or not issubclass(base, Exception) or getattr(builtins, base.__name__, None) is not base:
        return RemoteError
    namespace = {"__module__": RemoteError.__module__, "__qualname__": "RemoteError", "__str__": _first_argument}
    try:
        return type("RemoteError", (RemoteError, base), namespace)
    except TypeError:  # a builtin whose layout does not combine
        return RemoteError


def _first_argument(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""
