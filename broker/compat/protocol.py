"""What there is of the modules that rest on Pyro's own wire."""

from __future__ import annotations

from typing import Any

PROTOCOL_VERSION = 502


class SendingMessage:
    @staticmethod
    def ping(pyroConnection: Any, hmac_key: object = None) -> None:
        """Asks the daemon of a proxy's connection for a sign of life."""
        pyroConnection.control.ping()


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(f"{name}: calls travel over gRPC, and there are no messages or tools of Pyro's own wire")
