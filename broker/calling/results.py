"""The results of a batch, as its caller gets them: one after the other, each failure at its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from broker.codecs import BatchResults as Decoded
from broker.codecs import Encoded, PlainEdge, codec
from broker.connection.refusals import Refused
from broker.errors import CodecError, ProtocolError


class BatchResults(Iterator[Any]):
    """Gives the results of a batch in order, once. Where a call failed it raises, and the next result comes after that.

    An exception that a method raised has its remote traceback, as that of a single call.
    """

    __slots__ = ("_count", "_failures", "_place", "_plain", "_results", "_where")

    def __init__(self, results: Decoded, calls: int, where: str) -> None:
        """`calls` is how many were sent. Raises ProtocolError for what is no answer to them."""
        self._results = results
        self._where = where
        self._count = len(results)
        self._failures = _failures(results, where)
        if self._count > calls or (self._count < calls and self._count - 1 not in self._failures):
            raise ProtocolError(f"{where} answered a batch of {calls} calls with {self._count} results")
        self._place = 0
        values = results.values if not self._failures else None
        self._plain: Iterator[Any] | None = iter(values) if values is not None else None

    @classmethod
    def none(cls) -> BatchResults:
        """The results of no calls."""
        return cls(_NONE, 0, "")

    def __iter__(self) -> Self | Iterator[Any]:  # over a list a loop is fastest
        return self if self._plain is None else self._plain

    def __next__(self) -> Any:
        if self._plain is not None:
            return next(self._plain)
        place = self._place
        if place >= self._count:
            raise StopIteration
        self._place += 1
        reason, message, ran = self._failures.get(place, (None, "", False))
        if reason:
            raise Refused(reason, message).to_error(may_have_run=ran)
        try:
            result = self._results.result(place)
        except CodecError as error:
            raise CodecError(f"call {place} of the batch: {error}") from error
        if reason is None:
            return result
        if not isinstance(result, BaseException):
            raise ProtocolError(f"{self._where} raised something that is no exception: {type(result).__name__}")
        raise result


_NONE = codec("json").decode_results(Encoded("json", b"[[],[]]"), PlainEdge())


def _failures(results: Decoded, where: str) -> dict[int, tuple[str, str, bool]]:
    """By their places: reason (empty: the result is what the method raised), message, whether it ran."""
    failures: dict[int, tuple[str, str, bool]] = {}
    beside: Any = results.beside
    for failure in beside if isinstance(beside, list) else [beside]:
        known = isinstance(failure, list | tuple) and list(map(type, failure)) == [int, str, str, bool]
        if not known or not 0 <= failure[0] < len(results):
            raise ProtocolError(f"{where} answered a batch with something that says of no call why it failed")
        failures[failure[0]] = tuple(failure[1:])
    return failures
