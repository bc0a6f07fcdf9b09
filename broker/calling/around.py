"""The functions of a proxy's `around=`: on the thread that makes the call, around all that it takes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker._pb import broker_pb2 as wire
from broker.around import Call, Kind, Next, same_target
from broker.calling.invocation import Invocation
from broker.context import CallContext, current_context
from broker.errors import CallTimeout
from broker.turns import Lanes

if TYPE_CHECKING:
    from broker.calling.remote import Remote

turns = Lanes()
"""The calls of each thread that nobody waits for and that have not departed, by their lane."""
KINDS: dict[int, Kind] = {
    wire.Call.METHOD: "method",
    wire.Call.GET: "get",
    wire.Call.SET: "set",
    wire.Call.BATCH: "batch",
}


def invoke_around(
    remote: Remote,
    member: str,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    kind: wire.Call.Kind,
    *,
    oneway: bool,
) -> Any:
    """Calls a member, with the proxy's functions around it. Returns and raises what the outermost does."""
    if len(turns):
        _wait_for_turn(remote)
    asked = as_call(remote, member, args, kwargs, KINDS[kind], oneway=oneway)

    def innermost(call: Call) -> Any:
        if call is not asked:
            call = same_target(asked, call)
        arguments, batch = remote.pack(kind, call.args, call.kwargs, snapshot=oneway)
        invocation = Invocation(remote, member, arguments, kind, oneway=oneway, batch=batch)
        mark(invocation, call)
        outcome, _ = invocation.wait()
        return invocation.result_of(outcome)

    return remote.options.around.nested(innermost, not_awaited)(asked)


def _wait_for_turn(remote: Remote) -> None:
    """Waits until the futures that this thread made before have departed. Raises CallTimeout."""
    lane = remote.lanes.of_thread(waits=True)
    if not lane:
        return
    come = threading.Event()

    def start() -> None:
        come.set()
        turns.leave(lane)

    turns.enter(lane, start)
    if not come.wait(remote.options.timeout):
        error = CallTimeout(f"the time of the call of {remote.where()} was over before calls made earlier were sent")
        error.may_have_run = False
        raise error


def as_call(
    remote: Remote, member: str, args: tuple[object, ...], kwargs: Mapping[str, object], kind: Kind, *, oneway: bool
) -> Call:
    """The call as the running thread makes it."""
    context = CallContext.active()
    inherited = context.metadata if context is not None else {}
    return Call(
        object=remote.uri.object,
        member=member,
        kind=kind,
        args=args,
        kwargs=dict(kwargs),
        metadata={**inherited, **remote.options.metadata},
        oneway=oneway,
        location=remote.uri.location or "",
        correlation_id=current_context.correlation_id or uuid.uuid4(),
    )


def mark(invocation: Invocation, call: Call) -> None:
    """Sends the metadata and the correlation id of the call as the functions saw it."""
    invocation.request.metadata = call.metadata
    if call.correlation_id is not None:
        invocation.request.correlation_id = call.correlation_id.bytes


def not_awaited(rest: Next) -> Next:
    raise AssertionError("a proxy that blocks has plain functions")
