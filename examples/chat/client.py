"""Joins the chat: `python client.py URI NICK` says what is typed, until the end of the input.

`python client.py URI NICK TEXT...` answers with the next text whenever somebody else has joined or said something, and
leaves after the last one.
"""

from __future__ import annotations

import queue
import sys

import broker

uri, nick, *texts = sys.argv[1:]


def show(line: str) -> None:
    """Prints a line in one piece: other threads print as well."""
    print(f"{line}\n", end="", flush=True)


class Listener:
    """What the room calls."""

    def __init__(self) -> None:
        self.heard: queue.Queue[str] = queue.Queue()

    def hear(self, nick: str, text: str) -> None:
        show(f"<{nick}> {text}")
        self.heard.put(text)


class Member:
    """This program in the room. After a restart of the server it joins again."""

    def __init__(self, uri: str, nick: str) -> None:
        self.nick = nick
        self.listener = Listener()
        self._room = broker.Proxy(uri)
        self.join()
        self._room._broker.on_reconnect(self.join)

    def join(self) -> None:
        # One after another, in order of arrival: else two lines may change places here.
        self.chair = self._room.join(self.nick, broker.export(self.listener, max_concurrency=1))
        show(f"in the room: {', '.join(self._room.nicks())}")

    def say(self, text: str) -> None:
        self.chair.say(text)


member = Member(uri, nick)
if texts:
    for text in texts:
        while member.listener.heard.get() == "left":
            pass
        member.say(text)
else:
    for line in sys.stdin:
        member.say(line.rstrip())
