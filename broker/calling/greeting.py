"""The greeting with which a session begins, and what the daemon answers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from broker._pb.broker_pb2 import Call
from broker.calling.invocation import Invocation
from broker.codecs import codec
from broker.connection.calls import Outcome
from broker.connection.client import Route
from broker.connection.introduction import GREETINGS, check_feature
from broker.errors import AccessDenied, ConnectionClosedError

if TYPE_CHECKING:
    from broker.calling.remote import Remote


class Reception:
    """What comes of a greeting. Every method may be called from any thread."""

    def __init__(self, greeting: Invocation) -> None:
        self._outcome: Outcome | None = None
        self._come = threading.Event()
        # Without the proxy, whose session has this: it is to end with its last reference, not with the next collection.
        self._codec = greeting.request.arguments.codec
        greeting.request.on_outcome = self._answered

    def _answered(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._come.set()

    @property
    def was_turned_away(self) -> bool:
        """Whether the greeting was refused before anybody looked at it."""
        return self._outcome is not None and self._outcome.refused is not None

    def answer(self, remote: Remote, deadline: float | None) -> Any:
        """What the daemon answered. Raises AccessDenied, and BrokerErrors where there is no answer."""
        greeting = Invocation(remote, "", codec("json").encode_call((), {}, remote.edge), Call.GREET)
        if not self._come.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise greeting.too_late(None)
        assert self._outcome is not None
        if self._outcome.lost is not None:
            raise ConnectionClosedError(f"the greeting of {remote.where()} was not answered: {self._outcome.lost}")
        try:
            return greeting.result_of(self._outcome)
        except Exception as error:
            if not self._outcome.raised:
                raise
            raise AccessDenied(f"{remote.where()} did not admit this proxy: {error}") from error


def greet(remote: Remote, connection: Route, number: int) -> Reception:
    """Sends the greeting of a session with that number, and does not wait for the answer.

    Raises CodecError, MessageTooLargeError, and ProtocolError for another side that knows no greetings.
    """
    check_feature(connection.engine.peer, GREETINGS, str(connection.place))
    arguments = codec("json").encode_call((remote.options.greeting,), {}, remote.edge)
    greeting = Invocation(remote, "", arguments, Call.GREET)
    greeting.request.session = number
    greeting.request.deadline = None  # the session has no end, whatever time the first of its calls has
    reception = Reception(greeting)
    connection.engine.call(greeting.request)
    return reception
