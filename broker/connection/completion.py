"""Streams on gRPC's completion queues: what grpcio does not offer in public, in this one file.

The public API takes a thread for every send and another for every receive, and each hands over to the next: 25 to 40 µs
each. Here a message is sent by the thread that has it, and taken in by the thread that polls. `is_available` says
whether this grpcio has what is needed; broker.connection.client and server have the same on the public API.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from broker.connection.engine import Connection
from broker.connection.forks import forks
from broker.connection.leading import Leading

_NO_FLAGS = 0
_SENT = "broker sent"  # our operations that are due, beside gRPC's own
_RECEIVED = "broker received"
_GOES_ON: tuple[None, tuple[()]] = (None, ())  # what a poller does about a call that has not ended
_POLL_SECONDS = 1.0


def _has_all() -> bool:
    """Whether grpcio has every part that is used here, in the form that is used."""
    try:
        names = (
            cygrpc.SegregatedCall.operate, cygrpc.SegregatedCall.next_event, cygrpc.SegregatedCall.cancel,
            cygrpc.Channel.segregated_call, cygrpc.CompletionQueue.poll, cygrpc.Call.start_server_batch,
            _server._process_event_and_continue, _server._possibly_finish_call, _server._is_rpc_state_active,
            _server._get_initial_metadata_operation, _server._ServerStage.STOPPED,
        )  # fmt: skip
        state: Any = _server._RPCState()  # type: ignore[no-untyped-call]
        state.due.add("token")
        state.client, state.callbacks, state.initial_metadata_allowed  # noqa: B018
        return all(map(callable, names[:-1])) and _server._possibly_finish_call(state, "token") == (None, ())
    except (AttributeError, TypeError):
        return False


is_available: bool = _has_all()
"""Whether this grpcio offers what is used here. Tests set it to False to try the public API."""


class ClientStream:
    """The stream of a client, on a completion queue of its own.

    gRPC destroys the queue with the event of the last operation. Therefore a thread that sends says so before it
    begins, under the lock, and the one that reads stays until the status and all that was begun have come.
    """

    def __init__(
        self, channel: grpc.Channel, method: str, engine: Connection, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self._engine = engine
        self._channel = channel
        self.lock = threading.Lock()
        self._over = False  # no further operation may begin; under the lock
        self._due: set[str] = {"sent metadata", "metadata", "status"}
        operations = (
            ((cygrpc.SendInitialMetadataOperation(metadata, _NO_FLAGS),), "sent metadata"),
            ((cygrpc.ReceiveStatusOnClientOperation(_NO_FLAGS),), "status"),
            ((cygrpc.ReceiveInitialMetadataOperation(_NO_FLAGS),), "metadata"),
        )
        self._call = channel._channel.segregated_call(  # type: ignore[attr-defined]
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            method.encode(), None, None, None, None, operations, cygrpc.build_census_context(), None,
        )  # fmt: skip

    # ---- any thread

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self._begin(cygrpc.SendMessageOperation(b"".join(pieces), _NO_FLAGS), "sent")
        return False

    def finish(self) -> None:
        self._begin(cygrpc.SendCloseFromClientOperation(_NO_FLAGS), "finished")

    def cancel(self) -> None:
        with self.lock:
            if not self._over:
                self._call.cancel(cygrpc.StatusCode.cancelled, "cancelled")

    def close(self) -> None:
        """Lets go of the channel, when all has been read."""
        with forks.under_way():
            self._channel.close()

    def wake(self) -> None:
        if "woken" not in self._due:
            self._begin_locked((), "woken")  # nothing to do is done at once, and no peer is needed for that

    def _begin(self, operation: Any, tag: str) -> None:
        with self.lock:
            self._begin_locked((operation,), tag)

    def _begin_locked(self, operations: tuple[Any, ...], tag: str) -> None:
        if self._over:
            return
        self._due.add(tag)
        try:
            self._call.operate(operations, tag)
        except ValueError:  # the call has ended: its status is on its way, or was the last event
            self._due.discard(tag)

    # ---- the thread that reads

    def read(self) -> None:
        """Takes in what arrives, until the stream has ended; then `code` and `details` say how."""
        with forks.reading(self):
            self._read()

    def _read(self) -> None:
        receive = (cygrpc.ReceiveMessageOperation(_NO_FLAGS),)
        call, engine, due = self._call, self._engine, self._due
        due.add("received")
        call.operate(receive, "received")
        while due:
            if forks.forking:
                forks.park()
            event = call.next_event()
            tag = event.tag
            if tag == "received":
                message = event.batch_operations[0].message()
                if message is None:
                    due.discard(tag)
                else:
                    call.operate(receive, tag)
                    engine.receive(message)
            elif tag == "status":
                with self.lock:
                    self._over = True
                    due.discard(tag)
                status = event.batch_operations[0]
                self.code = _CODES.get(status.code())
                self.details = status.details() or ""
            else:
                due.discard(tag)
                if tag == "sent":
                    engine.sent()


_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ServerStream:
    """The stream of a server. Its messages are taken in by the threads that poll for the server."""

    def __init__(self, context: Any, finish: Callable[[None], None], engine: Connection, leading: Leading) -> None:
        self._call = context._rpc_event.call
        self._state = context._state
        self._finish = finish
        self._engine = engine
        self._leading = leading
        self._receive_operations = (cygrpc.ReceiveMessageOperation(_NO_FLAGS),)

    def receive(self) -> None:
        """Takes in the next message when it comes."""
        with self._state.condition:
            self._begin_locked(self._receive_operations, _RECEIVED, self._received)

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        operations: tuple[Any, ...] = (cygrpc.SendMessageOperation(b"".join(pieces), _NO_FLAGS),)
        state = self._state
        with state.condition:
            if state.initial_metadata_allowed:
                operations = (_server._get_initial_metadata_operation(state, None), *operations)
                state.initial_metadata_allowed = False
            self._begin_locked(operations, _SENT, self._sent)
        return False

    def finish(self) -> None:
        self._finish(None)

    def _begin_locked(self, operations: tuple[Any, ...], token: str, done: Callable[[Any], Any]) -> None:
        if _server._is_rpc_state_active(self._state):
            self._state.due.add(token)
            self._call.start_server_batch(operations, done)

    def _sent(self, event: Any) -> Any:
        finished = self._done(_SENT)
        self._engine.sent()
        return finished

    def _received(self, event: Any) -> Any:
        message = event.batch_operations[0].message()
        if message is None:
            self._engine.transport_ended(f"{self._engine.peer_name} is gone")
            return self._done(_RECEIVED)
        leading, state = self._leading, self._state
        leading.collect()
        self._engine.receive(message)
        with state.condition:
            if not _server._is_rpc_state_active(state):
                leading.hand_over()
                return _server._possibly_finish_call(state, _RECEIVED)
            self._call.start_server_batch(self._receive_operations, self._received)
        leading.lead()
        return _GOES_ON

    def _done(self, token: str) -> Any:
        with self._state.condition:
            return _server._possibly_finish_call(self._state, token)


class Pollers:
    """Threads that poll for a server beside the one that gRPC has: while one runs a call, another reads."""

    def __init__(self, server: grpc.Server, leading: Leading) -> None:
        self._state = server._state  # type: ignore[attr-defined]
        self._leading = leading
        self._lock = threading.Lock()
        self._threads = 0
        leading.on_stuck.append(self.add)
        self.add()

    def add(self) -> None:
        with self._lock:
            self._threads += 1
        threading.Thread(target=self._poll, name="broker-poller", daemon=True).start()

    def _poll(self) -> None:
        while not self._is_surplus():
            event = self._state.completion_queue.poll(time.time() + _POLL_SECONDS)
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                if self._state.stage is _server._ServerStage.STOPPED:
                    return
            elif not _server._process_event_and_continue(self._state, event):
                return
            del event  # a reference to a call that has ended would keep it

    def _is_surplus(self) -> bool:
        """Whether this thread is one more than there have to be, and may end."""
        with self._lock:
            surplus = self._threads > 1 + self._leading.stuck
            self._threads -= surplus
            return surplus
