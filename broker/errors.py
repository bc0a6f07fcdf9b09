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
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

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

    def __reduce__(self) -> tuple[Any, ...]:
        kind = self.__class__
        if kind is RemoteError or kind not in _REMOTE_CLASSES.values():
            return super().__reduce__()  # type: ignore[return-value]
        return _remote_error_again, (kind.__bases__[1], self.args), self.__dict__


_MOST_LINES = 300
_BEGIN = " +--- This exception occurred remotely (broker) - Remote traceback:"
_END = " +--- End of remote traceback"
_OWN_FILES = str(Path(__file__).parent) + os.sep


def format_remote_traceback(error: BaseException) -> str:
    """Formats an exception for its caller: as Python prints it, without the broker's own frames.

    Causes, contexts and groups are included; of more than 300 lines the middle is left out, for an exception that came
    through many daemons has the tracebacks of all of them. Returns the text without a final newline.
    """
    formatted = traceback.TracebackException(type(error), error, _behind_own_frames(error.__traceback__))
    _cut_own_frames(formatted)
    lines = "".join(formatted.format()).splitlines()
    if len(lines) > _MOST_LINES:
        half = _MOST_LINES // 2
        lines[half:-half] = [f"  … {len(lines) - 2 * half} lines are left out …"]
    return "\n".join(lines)


def _behind_own_frames(tb: TracebackType | None) -> TracebackType | None:
    """Where the code of others begins: to look up a frame takes longer than most methods do."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        tb = tb.tb_next
    return tb


def _cut_own_frames(formatted: traceback.TracebackException) -> None:
    """Cuts them from the exception, its causes and contexts, and the members of groups."""
    waiting = [formatted]
    while waiting:
        part = waiting.pop()
        frames = [frame for frame in part.stack if not frame.filename.startswith(_OWN_FILES)]
        part.stack = traceback.StackSummary.from_list(frames)
        related = (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))
        waiting += [other for other in related if other is not None]


def attach_remote_traceback(error: BaseException, text: str) -> None:
    """Adds a remote traceback to an exception as a note, so that Python's own display shows it.

    One that the exception already had, from a server further away, is replaced: the text holds it as well.
    """
    if not text:
        return
    lines = "\n".join(f" | {line}" if line else " |" for line in text.split("\n"))
    if hasattr(error, "__notes__"):
        error.__notes__ = own_notes(error)
    error.add_note(f"{_BEGIN}\n{lines}\n{_END}")


def own_notes(error: BaseException) -> list[str]:
    """The notes of an exception without the remote traceback: that was a traceback of another process."""
    return [note for note in _notes(error) if not note.startswith(_BEGIN)]


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)  # anybody may have put anything there
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, (list, tuple)) else []


def get_remote_traceback(error: BaseException) -> str:
    """The remote traceback of an exception as the other side printed it, or an empty string if it has none."""
    for note in _notes(error):
        if note.startswith(_BEGIN):
            return "\n".join(line.removeprefix(" |").removeprefix(" ") for line in note.split("\n")[1:-1])
    return ""


def excepthook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """A `sys.excepthook` that prints an exception with its remote traceback, once.

    Python's own hook shows the remote traceback too; this one is for those whose environment has put a hook in place
    that does not know notes::

        sys.excepthook = broker.errors.excepthook
    """
    if sys.stderr is not None:
        traceback.print_exception(kind, error, tb, file=sys.stderr)


_REMOTE_CLASSES: dict[type[BaseException], type[RemoteError]] = {}


def remote_error(
    type_name: str, message: str, base: type[BaseException] = Exception, members: Sequence[Exception] = ()
) -> RemoteError:
    """Makes the `RemoteError` of an unknown class that derives from the builtin exception `base`.

    `members` are the exceptions of a group; without any the error is no ExceptionGroup.
    """
    if issubclass(base, ExceptionGroup) and not members:
        base = Exception
    kind = _REMOTE_CLASSES.get(base)
    if kind is None:
        kind = _REMOTE_CLASSES[base] = _remote_class(base)
    error = kind.__new__(kind, message, members) if issubclass(kind, ExceptionGroup) else kind.__new__(kind)
    error.args = (message, *([list(members)] if members else ()))
    error.type = type_name
    return error


def _remote_error_again(base: type[BaseException], args: tuple[Any, ...]) -> RemoteError:
    """Unpickles and copies what `remote_error` made: its classes cannot be found by name."""
    error = remote_error("", "", base, args[1] if issubclass(base, ExceptionGroup) else ())
    error.args = args
    return error


def _remote_class(base: type[BaseException]) -> type[RemoteError]:
    if base in (Exception, StopIteration, StopAsyncIteration) or not issubclass(base, Exception):
        return RemoteError  # StopIteration would end the caller's loop in silence
    if getattr(builtins, base.__name__, None) is not base:
        return RemoteError
    namespace = {"__module__": RemoteError.__module__, "__qualname__": "RemoteError", "__str__": _first_argument}
    try:
        return type("RemoteError", (RemoteError, base), namespace)
    except TypeError:  # a builtin whose layout does not combine
        return RemoteError


def _first_argument(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""
