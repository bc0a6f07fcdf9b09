"""A batch: methods called one after another on one thread, with one payload for all arguments and one for all results.

To its lane, its gate, its thread, its deadline and its caller a batch is one call. What is asked of a call is asked of
each of its calls as it comes: may the caller, is the member remote, do the arguments fit; and each has a result, or a
failure, of its own. What is the same for all calls of a member is looked up once.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from broker._pb.broker_pb2 import Batch, Call
from broker.codecs import SCALARS, BatchCalls, Edge, codec
from broker.connection.refusals import Reason, Refused
from broker.connection.workers import run_aside
from broker.context import CallContext
from broker.dispatch.admission import Admission, find_member
from broker.dispatch.answers import audit, log_unheard, unreadable
from broker.dispatch.around import NotCalled
from broker.dispatch.job import Job
from broker.dispatch.statistics import Tally
from broker.dispatch.streaming import is_stream
from broker.errors import CodecError
from broker.exposure import Member, bind_arguments
from broker.objects import Registration
from broker.security import is_suspicious

CarryOut = Callable[[Registration, Member, Job, tuple[object, ...], dict[str, object]], object]
"""Calls a member, with the functions of `around`; may return an awaitable or an iterator."""
Bind = Callable[[Job, Member], Callable[..., object] | None]
"""Gives the method itself where nothing but to call it is left to do. May run user code, as `CarryOut` does."""
Steps = Generator[tuple[Any, contextvars.Context], tuple[object, bool], None]
"""Gives each awaitable that a method returns, with the variables that it runs in; is sent what came of it, and whether
that is an exception."""

_CONTAINERS = frozenset({list, dict, tuple, set, bytes})  # surely no awaitables
_log = logging.getLogger("broker")


class _Target:
    """What is the same for all calls of one member of a batch."""

    __slots__ = ("fewest", "member", "method", "most", "name", "refused")

    def __init__(self, name: str, found: Member | Refused) -> None:
        self.name = name
        self.refused = found if isinstance(found, Refused) else None
        self.member = found if isinstance(found, Member) else None
        self.method: Callable[..., object] | None = None
        """The method itself, once it is known that nothing is to be done but to call it."""
        arity = self.member.arity if self.member is not None else None
        self.fewest, self.most = (arity.fewest, arity.most) if arity is not None else (0, -1)


class BatchRun:
    """One batch on its way. One thread at a time takes it further."""

    def __init__(
        self,
        job: Job,
        context: CallContext,
        edge: Edge,
        admission: Admission,
        tally: Tally,
        carry_out: CarryOut,
        bind: Bind,
    ) -> None:
        assert job.registration is not None and job.call.request.batch is not None
        self.failures: list[tuple[int, str, str, bool]] = []
        """What failed: its place, the reason (empty: its result is what it raised), a message, whether it ran."""
        self.interrupt: KeyboardInterrupt | None = None
        """Ctrl-C in the main thread, meant for the program that waits there."""
        self._job = job
        self._registration = job.registration
        self._batch: Batch = job.call.request.batch
        self._context = context
        self._edge = edge
        self._admission = admission
        self._tally = tally
        self._carry_out = carry_out
        self._bind = bind
        self.results = codec(job.call.request.arguments.codec).results(edge)
        self._calls = list(self._batch.calls)
        self._targets: list[_Target | None] = [None] * len(self._batch.members)
        self._variables = context.new_context()

    def steps(self) -> Steps:
        """Carries the calls out. In one piece, for what stands in the loop is the price of a call.

        Raises CodecError, having called nothing, where there are no arguments for the calls.
        """
        job, context, variables = self._job, self._context, self._variables
        deadline, callbacks = context.deadline, context.callbacks
        append = self.results.values.append
        asks = self._admission.asks
        target, last, checks = self._target(0), -1, False
        calls: BatchCalls | None = None
        args_of_all: Sequence[Sequence[object]] | None = None
        for place, index in enumerate(self._calls):
            if job.cancelled is not None or (deadline is not None and time.monotonic() >= deadline):
                self._stop(place)
                return
            if index != last:
                target, last = self._targets[index] or self._target(index), index
                checks = asks or target.refused is not None
            if checks:
                refused = self._admission.not_allowed(job, target.name) or target.refused
                if refused is not None:
                    if self._refuse(target, refused):
                        return
                    continue
            if calls is None:
                calls = self._decode()
                args_of_all = calls.args if not calls.kwargs else None
            kwargs: Mapping[str, object] | None = None
            if args_of_all is not None:
                args = args_of_all[place]
            else:
                try:
                    args, kwargs = calls.arguments(place)
                except CodecError as error:
                    if self._refuse(target, unreadable(error)):
                        return
                    continue
            if kwargs or not target.fewest <= len(args) <= target.most:
                refused = self._unfit(target, args, kwargs or {})
                if refused is not None:
                    if self._refuse(target, refused):
                        return
                    continue
            context.member = target.name
            if callbacks:  # of the call before
                callbacks.clear()
            entered = variables.copy()
            try:
                if target.method is None:
                    result = entered.run(self._invoke, target, args, kwargs or {})
                elif kwargs:
                    result = entered.run(target.method, *args, **kwargs)
                else:
                    result = entered.run(target.method, *args)
            except BaseException as error:  # whatever a method raises is its result
                if self._raised(target, error):
                    return
                continue
            if type(result) in SCALARS:
                append(result)
                continue
            raised = False
            if type(result) not in _CONTAINERS and inspect.isawaitable(result):
                result, raised = yield result, entered
            if raised:
                assert isinstance(result, BaseException)
                if self._raised(target, result):
                    return
            elif self._returned(target, result):
                return

    # ---- before the call

    def _target(self, index: int) -> _Target:
        name = self._batch.members[index]
        found = find_member(self._registration, name, Call.METHOD)
        if isinstance(found, Member) and found.stream:
            found = Refused(Reason.UNSUPPORTED_OPERATION, self._no_stream(name))
        target = self._targets[index] = _Target(name, found)
        return target

    def _no_stream(self, name: str) -> str:
        return (
            f"{self._registration.where}: {name}() gives its items one by one, for which a batch has no place: "
            "call it by itself"
        )

    def _decode(self) -> BatchCalls:
        """The arguments, once there is a call that may be made and has a target."""
        arguments = self._job.call.request.arguments
        calls = codec(arguments.codec).decode_batch(arguments, self._edge)
        if len(calls) != len(self._calls):
            raise CodecError(f"the batch: it has {len(self._calls)} calls, and the arguments of {len(calls)}")
        return calls

    def _unfit(self, target: _Target, args: Sequence[object], kwargs: Mapping[str, object]) -> Refused | None:
        assert target.member is not None
        try:
            bind_arguments(target.member, args, kwargs, self._registration.where)
        except TypeError as error:
            return Refused(Reason.WRONG_ARGUMENTS, str(error))
        return None

    def _invoke(self, target: _Target, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """The first call of a member, and each of one that needs more than to be called."""
        assert target.member is not None
        self._context.forget_changes(self._job.call.request.metadata)
        target.method = self._bind(self._job, target.member)
        if target.method is not None:
            return target.method(*args, **kwargs)
        result = self._carry_out(self._registration, target.member, self._job, tuple(args), dict(kwargs))
        return None if target.member.oneway and not inspect.isawaitable(result) else result

    # ---- after it: each says whether the batch is over

    def _returned(self, target: _Target, value: object) -> bool:
        assert target.member is not None
        if self._job.call.request.oneway or target.member.oneway:
            self.results.values.append(None)
            return False
        if is_stream(value, self._edge):
            return self._refuse(target, Refused(Reason.UNSUPPORTED_OPERATION, self._no_stream(target.name)), ran=True)
        refused = self._add(target, value, "its result")
        return refused is not None and self._refuse(target, refused, ran=True)

    def _raised(self, target: _Target, error: BaseException) -> bool:
        assert target.member is not None
        if isinstance(error, NotCalled):
            return self._refuse(target, error.refused)
        job = self._job
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            self.interrupt = error
        self._tally.raised(error)
        log_unheard(job, target.name, error, oneway=job.call.request.oneway or target.member.oneway)
        if target.member.oneway:  # its caller is told nothing, here as elsewhere
            self.results.values.append(None)
            return self.interrupt is not None
        refused = self._add(target, error, "what it raised")
        if refused is not None:
            return self._refuse(target, refused, ran=True)
        return self._fail("", "", ran=True)

    def _add(self, target: _Target, value: object, what: str) -> Refused | None:
        """Adds a result, encoded as it is now; or says why that cannot be done."""
        called = f"{self._job.call.request.object}.{target.name}"
        if self._job.call.request.oneway:
            self.results.values.append(None)
            return None
        try:
            self.results.add(value, "result")
        except CodecError as error:
            text = f"{called} ran, and {what} cannot be encoded by the server: {error}"
            return Refused(Reason.RESULT_NOT_ENCODABLE, text)
        except BaseException as error:  # user code: what turns a value into plain data
            _log.exception("a call of %s could not be answered", called)
            text = f"the answer failed: {type(error).__name__}: {error}"
            return Refused(Reason.INTERNAL, text)
        return None

    def _refuse(self, target: _Target, refused: Refused, *, ran: bool = False) -> bool:
        """This call was not made, or has no result."""
        self.results.values.append(None)
        self._tally.refused(refused)
        audit(self._job, target.name, refused.reason)
        is_oneway = self._job.call.request.oneway
        if is_oneway or (target.member is not None and target.member.oneway):
            if not is_suspicious(refused.reason):  # else it is in the log already
                run_aside(lambda: _log.warning("oneway call refused: %s", refused.message))
            if not is_oneway:
                return False
        return self._fail(str(refused.reason), refused.message, ran=ran)

    def _fail(self, reason: str, message: str, *, ran: bool) -> bool:
        self.failures.append((len(self.results.values) - 1, reason, message, ran))
        return self.interrupt is not None or not self._batch.go_on

    def _stop(self, place: int) -> None:
        """Nobody waits any more, or the daemon ends: this call and those behind it are not made."""
        deadline = self._context.deadline
        reason, why = Reason.CANCELLED, self._job.cancelled
        if deadline is not None and time.monotonic() >= deadline:
            reason, why = Reason.DEADLINE_EXCEEDED, "the time of the batch is over"
        self._tally.refused(Refused(reason, ""))
        self.results.values.append(None)
        self.failures.append((place, str(reason), f"call {place} of the batch was not made: {why}", False))
