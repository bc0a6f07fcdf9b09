"""What each side says of itself first: which versions it speaks, and what it grants."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from broker._pb.broker_pb2 import Hello
from broker.connection.frames import CHUNK_SIZE, MESSAGE_LIMIT
from broker.errors import ProtocolError

VERSION = 1
OLDEST_VERSION = 1
EXPORTS = "exports"
"""The feature of a side that knows references to exported objects, and Release."""
BATCHES = "batches"
"""The feature of a side that takes calls of the kind BATCH."""
GREETINGS = "greetings"
"""The feature of a side that takes calls of the kind GREET."""
DRAINING = "draining"
"""The feature of a side that still makes nested calls where a GoAway says that they are taken."""
FEATURES = (EXPORTS, BATCHES, GREETINGS, DRAINING)


@dataclass(frozen=True, slots=True)
class Settings:
    """What one side grants the other, and expects of it."""

    codecs: tuple[str, ...] = ("json",)
    max_message_size: int = 1 << 30
    call_credit: int = 1024
    chunk_credit: int = 4 * CHUNK_SIZE
    item_credit: int = 16
    """How many items of a stream may come before the first of them is taken up."""
    outbox_limit: int = 32 << 20
    """While more bytes than this wait to be sent, no further call of the connection starts."""
    slow_peer_timeout: float = 30.0
    """Seconds that a peer may take nothing in, with the outbox over its limit, before the connection ends."""
    max_exports: int = 65_536
    """How many exported objects of either side the other may hold."""
    process_id: bytes = field(default_factory=lambda: uuid.uuid4().bytes)

    def to_wire(self) -> Hello:
        return Hello(
            oldest_version=OLDEST_VERSION,
            newest_version=VERSION,
            process_id=self.process_id,
            features=FEATURES,
            codecs=self.codecs,
            max_message_size=self.max_message_size,
            call_credit=self.call_credit,
            chunk_credit=self.chunk_credit,
            chunk_size=CHUNK_SIZE,
            item_credit=self.item_credit,
        )


def check_feature(hello: Hello | None, name: str, peer_name: str) -> None:
    """Raises ProtocolError for another side that has not named a feature."""
    if hello is not None and name not in hello.features:
        raise ProtocolError(f"{peer_name} runs a version of objectbroker without {name}: bring it to a newer one")


def check_introduction(hello: Hello, peer_name: str) -> None:
    """Raises ProtocolError for another side that cannot be talked with."""
    if hello.oldest_version > VERSION or hello.newest_version < OLDEST_VERSION:
        raise ProtocolError(
            f"{peer_name} speaks versions {hello.oldest_version} to {hello.newest_version} of the protocol "
            f"and this side {OLDEST_VERSION} to {VERSION}: bring both to a common version of objectbroker"
        )
    if not 0 < hello.chunk_size <= MESSAGE_LIMIT or not hello.call_credit or not hello.chunk_credit:
        raise ProtocolError("an introduction without chunk size or credit arrived")
