"""The calls of a batch on the side that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker._pb.broker_pb2 import Batch
from broker.codecs import Edge, Encoded, bytes_of, codec
from broker.connection.calls import MAX_BATCH
from broker.errors import BrokerError, CodecError

OneCall = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A call as the functions of `around` see it: method, arguments by position, arguments by name."""


class Gathered:
    """Calls that were gathered, in columns: what is the same for many is written once."""

    __slots__ = ("args", "calls", "kwargs", "members", "stop_on_error")

    def __init__(self, *, stop_on_error: bool) -> None:
        self.stop_on_error = stop_on_error
        self.members: list[str] = []
        self.calls: list[int] = []
        """For each call the place of its method in `members`."""
        self.args: list[tuple[object, ...]] = []
        self.kwargs: dict[int, dict[str, object]] = {}
        """By the place of the call, where there are any."""

    @classmethod
    def of(cls, calls: object, options: Mapping[str, Any]) -> Gathered:
        """The calls that a function of `around` passed on. Raises TypeError for what is none."""
        gathered = cls(stop_on_error=bool(options.get("stop_on_error", True)))
        recorders: dict[str, Callable[..., None]] = {}
        for call in calls if isinstance(calls, (list, tuple)) else [calls]:
            name, args, kwargs = call if isinstance(call, tuple) and len(call) == 3 else (None, None, None)
            if not isinstance(name, str) or not isinstance(args, (tuple, list)) or not isinstance(kwargs, dict):
                raise TypeError(f"the calls of a batch are (member, args, kwargs), and next was given {call!r}")
            if name not in recorders:
                recorders[name] = gathered.recorder(name)
            recorders[name](*args, **kwargs)
        if not gathered:
            raise TypeError("the calls of a batch are (member, args, kwargs), and next was given none")
        return gathered

    def recorder(self, name: str) -> Callable[..., None]:
        """A function that gathers a call of a method of that name."""
        args_of_all, kwargs_of_all = self.args, self.kwargs
        add_args, add_call = self.args.append, self.calls.append
        member = len(self.members)
        self.members.append(name)

        def record(*args: object, **kwargs: object) -> None:
            if kwargs:
                kwargs_of_all[len(args_of_all)] = kwargs
            add_args(args)
            add_call(member)

        record.__name__ = record.__qualname__ = name
        return record

    def __len__(self) -> int:
        return len(self.calls)

    def take(self) -> Gathered:
        """The calls, which are gathered here no longer."""
        taken = Gathered(stop_on_error=self.stop_on_error)
        taken.members = self.members.copy()  # these stay: each recorder knows its place
        taken.calls, taken.args, taken.kwargs = self.calls.copy(), self.args.copy(), self.kwargs.copy()
        self.calls.clear()
        self.args.clear()
        self.kwargs.clear()
        return taken

    def as_calls(self) -> tuple[OneCall, ...]:
        return tuple(
            (self.members[member], self.args[place], self.kwargs.get(place, {}))
            for place, member in enumerate(self.calls)
        )

    def pack(self, codec_name: str, edge: Edge, *, snapshot: bool) -> tuple[Encoded, Batch]:
        """The arguments of all calls, and which methods these call; a snapshot for a caller who goes on before they
        are sent. Raises CodecError that names the call, and BrokerError for more calls than a batch holds."""
        if len(self.calls) > MAX_BATCH:
            raise BrokerError(
                f"a batch holds at most {MAX_BATCH} calls, and this one has {len(self.calls)}: call it more often"
            )
        arguments = codec(codec_name).encode_batch(self.args, self.kwargs, edge, self._where)
        if snapshot and arguments.buffers:
            arguments = arguments._replace(buffers=tuple(map(bytes_of, arguments.buffers)))
        try:
            return arguments, Batch(members=self.members, calls=self.calls, go_on=not self.stop_on_error)
        except ValueError as error:
            raise CodecError(f"a method of the batch has a name that cannot be written: {error}") from error

    def _where(self, place: int) -> str:
        return f"call {place} of the batch, {self.members[self.calls[place]]}(): "
