"""The one answer of a call, whatever encoding raises.

Only then is its gate left: a result may be a part of the object.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from broker.codecs import Edge, Encoded, OverLimit, ResultWriter
from broker.connection.calls import NO_METADATA, ItemSink
from broker.connection.exports import EXPORTS_LIMIT
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import run_aside
from broker.dispatch.around import NotCalled
from broker.dispatch.job import Job
from broker.dispatch.scheduling import Scheduler
from broker.dispatch.statistics import Tally
from broker.dispatch.streams import MAX_STREAMS, OpenStreams
from broker.dispatch.under_way import UnderWay
from broker.errors import CodecError, CommunicationError, MessageTooLargeError, Overloaded, ProtocolError
from broker.security import is_suspicious, log_refusal, wants_refusal

SHUTTING_DOWN = "the daemon is shutting down"
_RAISED = "what it raised"
_log = logging.getLogger("broker")


def log_unheard(job: Job, member: str, error: BaseException, *, oneway: bool) -> None:
    """Logs what a member raised if no caller can receive it."""
    if not (oneway or job.cancelled is not None) or isinstance(error, asyncio.CancelledError):
        return
    what, object_id = (
        "oneway call" if oneway else f"call that nobody waits for ({job.cancelled})",
        job.call.request.object,
    )
    if job.cancelled is not None and isinstance(error, CommunicationError):  # a call inside it, which ended with it
        _log.info("%s of %s.%s ended: %s", what, object_id, member, error)
    else:
        _log.warning("%s of %s.%s failed", what, object_id, member, exc_info=error)


def audit(job: Job, member: str, reason: str) -> None:
    """Logs a refusal, aside: a handler may wait, and this thread may be one that reads."""
    if wants_refusal(reason):
        object_name = job.object_name or job.call.request.object
        run_aside(lambda: log_refusal(job.client, object_name, member, reason))


def unreadable(error: CodecError) -> Refused:
    """The refusal of a call whose arguments cannot be decoded, or are more than this side decodes."""
    return Refused(Reason.CODEC, str(error), error.limit if isinstance(error, OverLimit) else "")


class Answers:
    """Answers the calls of one daemon, and lets go of them. Every method may be called from any thread; no lock."""

    def __init__(
        self, under_way: UnderWay, scheduler: Scheduler, edge: Edge, tally: Tally, max_streams: int = MAX_STREAMS
    ) -> None:
        """`max_streams` is for those of one connection."""
        self._streams = OpenStreams(max_streams)
        self._tally = tally
        self._under_way = under_way
        self._scheduler = scheduler
        self._edge = edge

    def finish(self, job: Job, value: object, *, raised: bool) -> None:
        """Answers with what the method returned or raised."""
        job.returned = job.returned or time.perf_counter()
        if raised and isinstance(value, NotCalled):
            self.refuse(job, value.refused)
            return
        if raised:
            assert isinstance(value, BaseException)
            self._tally.raised(value)
            log_unheard(job, job.call.request.member, value, oneway=job.call.request.oneway)
        metadata = (job.context.outgoing_metadata if job.context is not None else None) or NO_METADATA
        self._answer(
            job,
            lambda kept: job.call.answer(value, self._edge, raised=raised, kept=kept, metadata=metadata),
            _RAISED if raised else "its result",
        )

    def finish_batch(self, job: Job, results: ResultWriter, failures: list[tuple[int, str, str, bool]]) -> None:
        """Answers with the results of a batch; a failure has its place, a reason, a message, and whether it ran."""
        request = job.call.request
        metadata = (job.context.outgoing_metadata if job.context is not None else None) or NO_METADATA

        def answer(kept: bool) -> None:
            value = Encoded(request.arguments.codec, b"") if request.oneway else results.finish(failures)
            job.call.reply(value, False, kept, metadata)

        self._answer(job, answer)

    def finish_with_bytes(self, job: Job, data: bytes) -> None:
        """Answers with bytes that are in no codec."""
        self._answer(job, lambda kept: job.call.answer_bytes(data))

    def refuse(self, job: Job, refused: Refused, *, ran: bool = False) -> None:
        """Answers that the call was not carried out, or that it ran and has no result."""
        if job.call.request.oneway and not is_suspicious(refused.reason):  # else it is in the log already
            run_aside(lambda: _log.warning("oneway call refused: %s", refused.message))
        self._leave_limits(job)
        self._refuse(job, refused, ran=ran)
        self.done(job)

    def _refuse(self, job: Job, refused: Refused, *, ran: bool, kept: bool = False) -> None:
        self._tally.refused(refused)
        if refused.reason != Reason.CANCELLED:
            audit(job, job.call.request.member, refused.reason)
        job.call.refuse(refused, ran=ran, kept=kept)

    # ---- streams

    def begin_stream(self, job: Job) -> ItemSink | None:
        """Answers that items follow. None if that cannot be said: then the call is over."""
        refused = self._streams.enter(job)
        if self._under_way.draining:
            job.end_soon(SHUTTING_DOWN)
        if refused is not None:
            self.refuse(job, refused, ran=True)
            return None
        metadata = (job.context.outgoing_metadata if job.context is not None else None) or NO_METADATA
        try:
            sink = job.call.answer_stream(kept=self._under_way.keeps(job), metadata=metadata)
        except ProtocolError as error:
            self.refuse(job, Refused(Reason.UNIMPLEMENTED, str(error)), ran=True)
            return None
        except Exception as error:
            self.fail_stream(job, error)
            return None
        if not sink.has_deadline:
            if job.timer is not None:
                job.timer.cancel()
            if job.context is not None:
                job.context.deadline = None
        return sink

    def end_stream(self, job: Job, sink: ItemSink, value: object, *, raised: bool) -> None:
        """There is no further item: what the generator returned, or raised. One that ends because it was told to is not
        taken for one that has come to its end."""
        if not raised and job.was_cut_short:
            self.cancel_stream(job)
            return
        if raised:
            assert isinstance(value, BaseException)
            self._tally.raised(value)
            log_unheard(job, job.call.request.member, value, oneway=False)
        what = _RAISED if raised else "what it returned"
        self._answer(job, lambda kept: sink.end(value, self._edge, raised=raised), what)

    def fail_stream(self, job: Job, error: BaseException) -> None:
        """An item, or the beginning of the stream, cannot be sent."""

        def failing(kept: bool) -> None:
            raise error

        self._answer(job, failing, "an item of it")

    def cancel_stream(self, job: Job) -> None:
        """Nobody wants further items."""
        self.refuse(
            job,
            Refused(Reason.CANCELLED, f"the stream ended: {job.cancelled or job.ends_soon or 'cancelled'}"),
            ran=True,
        )

    # ---- the end

    def _answer(self, job: Job, answer: Callable[[bool], None], what: str = "its description") -> None:
        kept = self._under_way.keeps(job)
        self._leave_limits(job)
        try:
            answer(kept)
        except MessageTooLargeError as error:
            self._refuse(job, Refused(Reason.MESSAGE_TOO_LARGE, str(error)), ran=True, kept=kept)
        except Overloaded as error:
            self._refuse(job, Refused(Reason.OVERLOADED, str(error), EXPORTS_LIMIT), ran=True, kept=kept)
        except CodecError as error:
            request = job.call.request
            member = f".{request.member}" if request.member else ""
            cannot = f"{request.object}{member} ran, and {what} cannot be encoded by the server"
            self._refuse(job, Refused(Reason.RESULT_NOT_ENCODABLE, f"{cannot}: {error}"), ran=True, kept=kept)
        except BaseException as error:  # user code: what turns a value into plain data
            _log.exception("a call of %s could not be answered", job.call.request.object)
            refused = Refused(Reason.INTERNAL, f"the answer failed: {type(error).__name__}: {error}")
            self._refuse(job, refused, ran=True, kept=kept)
        finally:
            self.done(job)

    def _leave_limits(self, job: Job) -> None:
        """The call counts no longer: who has seen its answer may call again."""
        self._under_way.answering(job)
        if job.streams:
            self._streams.leave(job)

    def done(self, job: Job) -> None:
        """The call is answered: lets go of it."""
        if job.timer is not None:
            job.timer.cancel()
            if job.context is not None and job.context.cancelled:  # the method saw its time end before the timer did
                job.cancel("the time of the call is over")
        # What refers to the job lets go of it: the arguments go now, not when the garbage collector comes by.
        job.context = None
        job.stops = ()
        job.call.over()
        job.done = True
        self._scheduler.leave(job)
        self._under_way.remove(job)
