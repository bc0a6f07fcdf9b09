"""Two ends of a connection joined by hand: no sockets, no gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker._pb.broker_pb2 import Call, Frame, Frames, Hello
from broker.codecs import Encoded
from broker.connection import chains
from broker.connection.calls import CallRequest, IncomingCall, PendingCall
from broker.connection.engine import Connection, Settings
from broker.connection.frames import ChunkFrame
from broker.connection.groups import CallGroup
from broker.connection.reading import decode_frames
from broker.connection.refusals import Refused

FrameOrChunk = Frame | ChunkFrame


@dataclass
class Recorder:
    """The side that serves: keeps what arrives, for the test to answer."""

    calls: list[IncomingCall] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    closed_sessions: list[int] = field(default_factory=list)
    ended: list[Connection] = field(default_factory=list)
    on_call: Callable[[IncomingCall], None] = lambda call: None

    def incoming(self, call: IncomingCall) -> None:
        self.calls.append(call)
        self.on_call(call)

    def incoming_group(self, group: CallGroup) -> None:
        for call in group.singles():
            self.incoming(call)

    def turned_away(self, refused: Refused) -> None:
        self.refused.append(refused.reason)

    def session_closed(self, connection: Connection, session: int) -> None:
        self.closed_sessions.append(session)

    def connection_ended(self, connection: Connection) -> None:
        self.ended.append(connection)


class Pair:
    """A client and a server end, and what passes between them."""

    def __init__(self, client: Settings, server: Settings) -> None:
        self.served = Recorder()
        self.called_back = Recorder()
        self.client = Connection(client, self.called_back, accepts=False, peer_name="server")
        self.server = Connection(server, self.served, accepts=True, peer_name="client")
        self._threads: list[threading.Thread] = []

    def to_server(self) -> int:
        """Passes on what the client has to send; returns how many messages there were."""
        return _pass_on(self.client, self.server)

    def to_client(self) -> int:
        return _pass_on(self.server, self.client)

    def settle(self) -> None:
        """Passes messages to and fro until neither end has any."""
        while self.to_server() + self.to_client():
            pass

    def start(self) -> None:
        """From now on two threads pass the messages on."""
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            thread = threading.Thread(target=_pump, args=(sender, receiver), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self.client.lost("the test is over")
        self.server.lost("the test is over")
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def _pass_on(sender: Connection, receiver: Connection) -> int:
    messages = 0
    while (message := sender.next_message(timeout=0)) is not None:
        receiver.receive(message)
        messages += 1
    return messages


def _pump(sender: Connection, receiver: Connection) -> None:
    while (message := sender.next_message()) is not None:
        receiver.receive(message)
    receiver.lost("the other end has closed")


MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair() -> Iterator[MakePair]:
    """Makes pairs that have introduced themselves; `server` and `client` are settings of either side."""
    pairs: list[Pair] = []

    def make(
        *, server: dict[str, Any] | None = None, client: dict[str, Any] | None = None, introduced: bool = True
    ) -> Pair:
        pair = Pair(Settings(**(client or {})), Settings(**(server or {})))
        if introduced:
            pair.settle()
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.stop()


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair()


def request(member: str = "take", payload: bytes = b"[[],{}]", **changes: Any) -> CallRequest:
    """A call; `nested` makes it one at depth 2."""
    if changes.pop("nested", False):
        changes["depth"] = 2
    chain = changes.pop("chain", None) or chains.new_chain()
    return CallRequest("thing", member, Call.METHOD, Encoded("json", payload), chain, **changes)


def make_call(connection: Connection, member: str = "take", payload: bytes = b"[[],{}]", **changes: Any) -> PendingCall:
    return connection.call(request(member, payload, **changes))


def answer(call: IncomingCall, payload: bytes = b"null", **changes: Any) -> None:
    call.started()
    raised, kept = changes.get("raised", False), changes.get("kept", False)
    call.reply(Encoded("json", payload), raised, kept, changes.get("metadata", {}))


def frames_of(connection: Connection) -> list[FrameOrChunk]:
    """What the connection has to send."""
    frames: list[FrameOrChunk] = []
    while (message := connection.next_message(timeout=0)) is not None:
        for frame in decode_frames(message):
            frames += [plain.to_frame() for plain in frame] if isinstance(frame, list) else [frame]
    return frames


def kinds_of(connection: Connection) -> list[str]:
    return [
        "chunk" if isinstance(frame, ChunkFrame) else str(frame.WhichOneof("kind")) for frame in frames_of(connection)
    ]


def message(*frames: Frame) -> bytes:
    return Frames(frames=frames).SerializeToString()


def hello(**changes: Any) -> Hello:
    known: dict[str, Any] = {
        "oldest_version": 1, "newest_version": 1, "process_id": bytes(16), "codecs": ["json"],
        "max_message_size": 1 << 30, "call_credit": 4, "chunk_credit": 4 << 20, "chunk_size": 1 << 20,
    }  # fmt: skip
    return Hello(**{**known, **changes})


def call_frame(number: int, **changes: Any) -> Frame:
    """A call as a stranger may write it."""
    known: dict[str, Any] = {"object": "thing", "member": "take", "kind": Call.METHOD, "chain": bytes(16), "depth": 1}
    return Frame(id=number, call=Call(**{**known, **changes}))


def both(*steps: Callable[[], object]) -> Callable[[], None]:
    """One after the other."""

    def run() -> None:
        for step in steps:
            step()

    return run
