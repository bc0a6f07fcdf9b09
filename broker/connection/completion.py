"""Streams on gRPC's completion queues: what grpcio does not offer in public, in this one file.

The public API takes a thread for every send and another for every receive, and each hands over to the next: 25 to 40 µs
each. Here a message is sent by the thread that has it, and taken in by the thread that polls. `is_available` says
whether this grpcio has what is needed; broker.connection.client and server have the same on the public API.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from broker.connection.engine import Connection
from broker.connection.forks import Lock, forks
from broker.connection.leading import Leading

_NO_FLAGS = 0
_SENT = "broker sent"  # our operations that are due, beside gRPC's own
_RECEIVED = "broker received"
_GOES_ON: tuple[None, tuple[()]] = (None, ())  # what a poller does about a call that has not ended
_POLLERS = 2
_POLL_SECONDS = 1.0


def _has_all() -> bool:
    """Whether grpcio has every part that is used here, in the form that is used."""
    try:
        names = (
            cygrpc.SegregatedCall.operate, cygrpc.SegregatedCall.next_event, cygrpc.SegregatedCall.cancel,
            cygrpc.Channel.segregated_call, cygrpc.CompletionQueue.poll, cygrpc.Call.start_server_batch,
            _server._process_event_and_continue, _server._possibly_finish_call, _server._is_rpc_state_active,
            _server._get_initial_metadata_operation, _server._request_call, _server._begin_shutdown_once,
            cygrpc.Server.register_completion_queue, cygrpc.Server.shutdown, cygrpc.Server.destroy,
            _server._ServerStage.STARTED, _server._ServerStage.STOPPED,
        )  # fmt: skip
        state: Any = _server._RPCState()  # type: ignore[no-untyped-call]
        state.due.add("token")
        state.client, state.callbacks, state.initial_metadata_allowed  # noqa: B018
        return all(map(callable, names[:-2])) and _server._possibly_finish_call(state, "token") == (None, ())
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
        self.inside = False
        self._engine = engine
        self._channel = channel
        self._lock = threading.Lock()
        self._over = False  # no further operation may begin; under the lock
        self._due: set[str] = {"sent metadata", "metadata", "status"}
        operations = (
            ((cygrpc.SendInitialMetadataOperation(metadata, _NO_FLAGS),), "sent metadata"),
            ((cygrpc.ReceiveStatusOnClientOperation(_NO_FLAGS),), "status"),
            ((cygrpc.ReceiveInitialMetadataOperation(_NO_FLAGS),), "metadata"),
        )
        self._call = channel._channel.segregated_call(  # type: ignore[attr-defined]
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            method.encode(), None, None, None, None, operations, cygrpc.build_census_context(),
        )  # fmt: skip

    # ---- any thread

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self._begin(cygrpc.SendMessageOperation(b"".join(pieces), _NO_FLAGS), "sent")
        return False

    def finish(self) -> None:
        self._begin(cygrpc.SendCloseFromClientOperation(_NO_FLAGS), "finished")

    def cancel(self) -> None:
        with self._lock:
            if not self._over:
                self._call.cancel(cygrpc.StatusCode.cancelled, "cancelled")

    def close(self) -> None:
        """Lets go of the channel, when all has been read."""
        with forks.under_way():
            self._channel.close()

    def wake(self, timeout: float) -> bool:
        if not self._lock.acquire(timeout=timeout):
            return False
        try:
            if "woken" not in self._due:
                self._begin_locked((), "woken")  # nothing to do is done at once, and no peer is needed for that
        finally:
            self._lock.release()
        return True

    def locks(self) -> Iterable[Lock]:
        yield self._lock

    def _begin(self, operation: Any, tag: str) -> None:
        with self._lock:
            self._begin_locked((operation,), tag)

    def _begin_locked(self, operations: tuple[Any, ...], tag: str) -> None:
        if self._over:
            return
        self._due.add(tag)
        try:
            begun = self._call.operate(operations, tag)
        except ValueError:  # the call has ended, and its status is on its way
            begun = False
        if not begun:  # or the status was the last event, which the reader has taken and not looked at yet
            self._due.discard(tag)

    # ---- the thread that reads

    def read(self) -> None:
        """Takes in what arrives, until the stream has ended; then `code` and `details` say how."""
        with forks.reading(self):
            self.inside = True
            try:
                self._read()
            finally:
                self.inside = False

    def _read(self) -> None:
        receive = (cygrpc.ReceiveMessageOperation(_NO_FLAGS),)
        call, engine, due = self._call, self._engine, self._due
        due.add("received")
        call.operate(receive, "received")
        while due:
            if forks.forking:
                self.inside = False
                forks.park()
                self.inside = True
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
                with self._lock:
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
    """The threads that poll for a server, which they start: while one runs a call, another reads.

    gRPC's own thread for that is left out: a fork cannot bring it out of gRPC, and it outlives its server where another
    one sees the end of that.
    """

    def __init__(self, server: grpc.Server, leading: Leading) -> None:
        self._state = server._state  # type: ignore[attr-defined]
        self._leading = leading
        self._lock = threading.Lock()
        self._pollers: set[_Poller] = set()
        forks.begin_reading(self)
        with forks.under_way():
            self._start_server()
        leading.on_stuck.append(self.add)
        for _ in range(_POLLERS):
            self.add()

    def _start_server(self) -> None:
        state = self._state
        with state.lock:
            state.server.start()
            state.stage = _server._ServerStage.STARTED
            _server._request_call(state)

    def add(self) -> None:
        poller = _Poller()
        with self._lock:
            self._pollers.add(poller)
        threading.Thread(target=self._poll, args=(poller,), name="broker-poller", daemon=True).start()

    def _poll(self, poller: _Poller) -> None:
        state, queue = self._state, self._state.completion_queue
        while not self._is_surplus(poller):
            poller.inside = True
            if forks.forking:
                poller.inside = False
                forks.park()
                continue
            event = queue.poll(time.time() + _POLL_SECONDS)
            poller.inside = False
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                if state.server_deallocated:
                    _server._begin_shutdown_once(state)
            elif type(event.tag) is _Waker:
                event.tag.is_done()
            else:
                _server._process_event_and_continue(state, event)
            del event  # a reference to a call that has ended would keep it

    def _is_surplus(self, poller: _Poller) -> bool:
        """Whether this thread is one more than there have to be, and may end."""
        stopped = self._state.stage is _server._ServerStage.STOPPED
        with self._lock:
            surplus = stopped or len(self._pollers) > _POLLERS + self._leading.stuck
            if surplus:
                self._pollers.discard(poller)
            left = len(self._pollers)
        if not left:
            forks.end_reading(self)
        elif stopped:
            self.wake(0)
        return surplus

    # ---- a fork

    @property
    def inside(self) -> bool:
        with self._lock:
            return any(poller.inside for poller in self._pollers)

    def wake(self, timeout: float) -> bool:
        with self._lock:
            waiting = sum(poller.inside for poller in self._pollers)
        for _ in range(waiting):
            _Waker(self._state.completion_queue)
        return True

    def locks(self) -> Iterable[Lock]:
        state = self._state
        yield state.lock
        for call in list(state.rpc_states):
            yield call.condition


class _Poller:
    """One of the threads."""

    inside = False
    """Whether it is in the completion queue, or about to be."""


class _Waker:
    """Makes a thread come out of a completion queue: the end of a server that never had a port is an event there."""

    def __init__(self, queue: Any) -> None:
        self._server = cygrpc.Server((), False)
        self._server.register_completion_queue(queue)
        self._server.start(backup_queue=False)
        self._server.shutdown(queue, self)

    def is_done(self) -> None:
        """The event was taken."""
        self._server.destroy()
