"""Batch: many calls of one object in one payload and one round trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NoReturn, overload

from broker._pb.broker_pb2 import Batch as WireBatch
from broker._pb.broker_pb2 import Call
from broker.around import Call as AroundCall
from broker.calling import Invocation, Remote, as_call, surround
from broker.calling.results import BatchResults
from broker.codecs import Encoded, codec
from broker.connection.calls import MAX_BATCH
from broker.errors import BrokerError
from broker.proxy import ProxyControl


class _Gathered:
    """Calls that were gathered: of which method each is, and its arguments."""

    __slots__ = ("args", "calls", "kwargs", "members")

    def __init__(self) -> None:
        self.members: list[str] = []
        self.calls: list[int] = []
        """For each call the place of its method in `members`."""
        self.args: list[tuple[object, ...]] = []
        self.kwargs: dict[int, dict[str, object]] = {}
        """By the place of the call, where there are any."""

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

    def take(self) -> _Gathered:
        """The calls, which are gathered here no longer."""
        taken = _Gathered()
        for name in ("calls", "args", "kwargs"):
            setattr(taken, name, getattr(self, name).copy())
            getattr(self, name).clear()
        taken.members = self.members.copy()  # these stay: each recorder knows its place
        return taken

    def listed(self) -> tuple[tuple[str, tuple[object, ...], dict[str, object]], ...]:
        """The calls, each as (member, args, kwargs)."""
        return tuple(
            (self.members[member], args, self.kwargs.get(place, {}))
            for place, (member, args) in enumerate(zip(self.calls, self.args, strict=True))
        )

    @classmethod
    def of(cls, calls: tuple[Any, ...]) -> _Gathered:
        """The opposite. Raises TypeError for anything else."""
        gathered = cls()
        recorders: dict[str, Callable[..., None]] = {}
        for call in calls:
            try:
                member, args, kwargs = call
                record = recorders.get(member) or recorders.setdefault(member, gathered.recorder(member))
                record(*args, **kwargs)
            except (TypeError, ValueError):
                raise TypeError(
                    f"the calls of a batch are (member, args, kwargs), and next was given {call!r}"
                ) from None
        return gathered

    def where(self, place: int) -> str:
        return f"call {place} of the batch, {self.members[self.calls[place]]}(): "


class Batch:
    """Gathers calls of a remote object; calling the batch makes them, one after the other, in one round trip::

        batch = broker.Batch(warehouse)
        batch.take("Janet", "couch")
        batch.list_contents()
        for result in batch():
            ...

    `batch()` gives an iterator over the results, in order. Where a call failed it raises what that call would have
    raised; by default nothing behind it was carried out, and the iterator ends there. With `stop_on_error=False` the
    rest is carried out all the same, and its results follow. To time, order and limits a batch is one call.

    Arguments are encoded when the batch is called. Calling it empties it, whatever comes of it: it can be filled again.
    One thread at a time fills it.
    """

    def __init__(self, proxy: Any, *, stop_on_error: bool = True) -> None:
        """`proxy` is any proxy. Raises TypeError for anything else."""
        control = getattr(proxy, "_broker", None)
        if not isinstance(control, ProxyControl):
            raise TypeError(f"a batch is made of a proxy, broker.Batch(proxy), and not of {type(proxy).__name__}")
        vars(self).update(_proxy=proxy, _remote=control._remote, _go_on=not stop_on_error, _gathered=_Gathered())

    _proxy: Any
    _remote: Remote
    _go_on: bool
    _gathered: _Gathered

    # ---- gathering

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: such names are never remote"
            )
        description = self._remote.known_description() or self._remote.description()
        member = description.members.get(name)
        if member is not None and not member.is_method:
            raise AttributeError(
                f"the property {name!r} of {self._remote.where()} has no place in a batch: use the proxy"
            )
        recorder = vars(self)[name] = self._gathered.recorder(name)  # next time Python finds it by itself
        return recorder

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: attributes {_NO_PLACE}; set them on the proxy")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"items {_NO_PLACE}: use the proxy")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(f"items {_NO_PLACE}: use the proxy")

    def __iter__(self) -> NoReturn:
        raise TypeError("a batch is called to get its results: for result in batch()")

    def __len__(self) -> int:
        """How many calls are gathered."""
        return len(self._gathered.calls)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a batch is neither copied nor pickled: make another of the proxy")

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} calls of {self._remote.where()}>"

    # ---- calling

    @overload
    def __call__(self) -> BatchResults: ...
    @overload
    def __call__(self, *, oneway: Literal[True]) -> None: ...

    def __call__(self, *, oneway: bool = False) -> BatchResults | None:
        """Makes the calls, and gives their results; with `oneway` it does not wait, and gives None.

        Raises CodecError, naming the call and the argument, if something cannot be encoded, and what any call raises
        that cannot be made: CommunicationError, CallTimeout for the whole batch.
        """
        gathered = self._gathered.take()
        if not gathered.calls:
            return None if oneway else BatchResults.none()
        results: BatchResults | None
        if self._remote.options.around:
            results = self._call_around(gathered, oneway=oneway)
        else:
            call = self._invocation(gathered, oneway=oneway)
            outcome, _ = call.wait()
            results = call.result_of(outcome)
        return results

    def _call_around(self, gathered: _Gathered, *, oneway: bool) -> Any:
        """The functions of the proxy run once, around the whole batch."""
        asked = as_call(self._remote, "", gathered.listed(), {}, "batch", oneway=oneway)

        def begin(call: AroundCall) -> Invocation:
            given = gathered if call.args is asked.args else _Gathered.of(call.args)
            return self._invocation(given, oneway=oneway)

        return surround(self._remote, asked, begin)

    def _invocation(self, gathered: _Gathered, *, oneway: bool) -> Invocation:
        if len(gathered.calls) > MAX_BATCH:
            raise BrokerError(
                f"a batch holds at most {MAX_BATCH} calls, and this one has {len(gathered.calls)}: call it more often"
            )
        remote = self._remote
        arguments = codec(remote.options.codec).encode_batch(
            gathered.args, gathered.kwargs, remote.edge, gathered.where
        )
        if oneway:
            arguments = _snapshot(arguments)
        batch = WireBatch(members=gathered.members, calls=gathered.calls, go_on=self._go_on)
        return Invocation(remote, "", arguments, Call.BATCH, oneway=oneway, batch=batch)


_NO_PLACE = "have no place in a batch"


def _snapshot(arguments: Encoded) -> Encoded:
    """For a caller who goes on, and may change them, before they are sent."""
    return arguments._replace(buffers=tuple(map(bytes, arguments.buffers)))
