"""What is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.calling import take_answers, take_by_proxy
from tests.fuzz.serving import take_connection, take_invoke, take_registry, take_typed
from tests.fuzz.values import take_frames, take_inbox, take_json, take_uri

TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": take_json,
    "uri": take_uri,
    "frames": take_frames,
    "inbox": take_inbox,
    "connection": take_connection,
    "answers": take_answers,
    "proxy": take_by_proxy,
    "invoke": take_invoke,
    "typed": take_typed,
    "registry": take_registry,
}
