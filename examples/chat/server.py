"""A chat room: whoever joins is told what the others say."""

from __future__ import annotations

import threading
from typing import Any

import broker
from broker import errors


class Room:
    """Tells everything to everybody, in the same order. What is not marked @expose is for the server alone."""

    def __init__(self) -> None:
        self._members: dict[str, Any] = {}
        self._talking = threading.Lock()

    @broker.expose
    def join(self, nick: str, listener: Any) -> Any:
        """Lets somebody in; returns a chair, from which to talk. What others say is told to `listener.hear`."""
        listener._broker.set("timeout", 1)  # nobody holds up the room for longer
        with self._talking:
            if self._members.setdefault(nick, listener) != listener:
                raise ValueError(f"somebody else is called {nick} already")
        broker.current_context.on_close(lambda: self.leave(nick, listener))  # also if the program was killed
        self.tell(nick, "joined")
        return broker.export(Chair(self, nick))

    @broker.expose
    def nicks(self) -> list[str]:
        return sorted(self._members)

    def tell(self, nick: str, text: str) -> None:
        """Waits for nobody: who is gone, or does not listen, is forgotten when the connection ends."""
        with self._talking:
            for member, listener in self._members.items():
                if member != nick:
                    try:
                        listener.hear.oneway(nick, text)
                    except errors.CommunicationError as error:
                        print(f"{member} was not told: {error}")

    def leave(self, nick: str, listener: Any) -> None:
        with self._talking:
            if self._members.get(nick) != listener:
                return
            del self._members[nick]
        self.tell(nick, "left")


class Chair:
    """What a member talks from. The room exports it to that member, and nobody else has it."""

    def __init__(self, room: Room, nick: str) -> None:
        self._room = room
        self._nick = nick

    def say(self, text: str) -> None:
        self._room.tell(self._nick, text)


if __name__ == "__main__":
    broker.serve({Room(): "example.chat"}, use_ns=False)
