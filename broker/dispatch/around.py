"""The functions of a daemon's `around=`: on the thread that runs the call, inside its `current_context`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from broker._pb import broker_pb2 as wire
from broker.around import AroundFunctions, Call, Kind, Next, same_target
from broker.connection.refusals import Reason, Refused
from broker.dispatch.job import Job
from broker.dispatch.scheduling import Scheduler
from broker.errors import AccessDenied, Overloaded
from broker.exposure import Member, bind_arguments

CarryOut = Callable[[tuple[Any, ...], dict[str, Any]], object]
"""Calls the member with these arguments; may return an awaitable or an iterator."""


class NotCalled(Exception):
    """The method was not called, because a function refused the call, or since its object is gone: a refusal, not
    something that the method raised."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class AroundCalls:
    """Runs one daemon's functions around its calls. It has no state of its own."""

    def __init__(self, functions: AroundFunctions, scheduler: Scheduler) -> None:
        self._functions = functions
        self._scheduler = scheduler

    def __bool__(self) -> bool:
        return bool(self._functions)

    def run(
        self, job: Job, member: Member, kind: int, args: tuple[Any, ...], kwargs: dict[str, Any], carry_out: CarryOut
    ) -> object:
        """Carries the call out with the functions around it; returns what the outermost returns.

        Raises what it raises, or NotCalled.
        """
        asked = _as_call(job, member, kind, args, kwargs)
        invoked = False

        def innermost(call: Call) -> object:
            nonlocal invoked
            if call is not asked:
                _take_changes(job, member, asked, call)
            invoked = True
            return carry_out(call.args, call.kwargs)

        try:
            result = self._functions.nested(innermost, lambda rest: self._awaited(job, rest))(asked)
        except (AccessDenied, Overloaded) as error:
            raise _result_or_refusal(error, invoked) from error.__cause__
        return _awaiting(result, lambda: invoked) if inspect.isawaitable(result) else result

    def _awaited(self, job: Job, rest: Next) -> Next:
        """The `next` of an `async def` function, which runs on the loop: the rest is to have a thread as ever."""

        async def go_on(call: Call) -> Any:
            ended: concurrent.futures.Future[tuple[object, bool]] = concurrent.futures.Future()
            variables = contextvars.copy_context()

            def step() -> None:
                if ended.set_running_or_notify_cancel():
                    ended.set_result(_outcome(variables, rest, call))

            def failed(error: BaseException) -> None:
                if ended.set_running_or_notify_cancel():
                    ended.set_result((error, True))

            self._scheduler.resume(job, step, failed)
            value, raised = await asyncio.wrap_future(ended)
            if raised:
                assert isinstance(value, BaseException)
                raise value
            return (await value) if inspect.isawaitable(value) else value

        return go_on


def _outcome(variables: contextvars.Context, rest: Next, call: Call) -> tuple[object, bool]:
    try:
        return variables.run(rest, call), False
    except BaseException as error:  # a future takes no StopIteration
        return error, True


def _as_call(job: Job, member: Member, kind: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    request, registration, context = job.call.request, job.registration, job.context
    assert registration is not None and context is not None
    return Call(
        object=registration.object_id,
        member=member.name,
        kind=_kind(member, kind),
        args=args,
        kwargs=kwargs,
        metadata=context.own_metadata(),
        oneway=request.oneway,
        location=registration.location,
        client=job.client,
        correlation_id=context.correlation_id,
    )


def _kind(member: Member, kind: int) -> Kind:
    if member.kind == "method":
        return "method"
    return "set" if kind == wire.Call.SET else "get"


def _take_changes(job: Job, member: Member, asked: Call, given: Call) -> None:
    """Raises TypeError for what cannot be changed, and for arguments that do not fit."""
    registration, context = job.registration, job.context
    assert registration is not None and context is not None
    call = same_target(asked, given)
    if call.kind == "method":
        bind_arguments(member, call.args, call.kwargs, registration.where)
    context.own_metadata(call.metadata)


def _result_or_refusal(error: AccessDenied | Overloaded, invoked: bool) -> Exception:
    if invoked:
        return error
    reason = Reason.ACCESS_DENIED if isinstance(error, AccessDenied) else Reason.OVERLOADED
    return NotCalled(Refused(reason, str(error)))


async def _awaiting(result: Awaitable[object], invoked: Callable[[], bool]) -> object:
    try:
        return await result
    except (AccessDenied, Overloaded) as error:
        raise _result_or_refusal(error, invoked()) from error.__cause__
