"""Daemons, and gRPC clients that know nothing of them but their address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker
from tests.services.stranger import Stranger


@pytest.fixture
def serve() -> Iterator[Callable[..., Stranger]]:
    """Serves objects by their ids, and gives a client of their daemon."""
    made: list[Any] = []

    def serve(objects: dict[str, object], **options: Any) -> Stranger:
        daemon = broker.Daemon(**options)
        made.append(daemon)
        for object_id, target in objects.items():
            daemon.register(target, object_id)
        daemon.start()
        stranger = Stranger(daemon)
        made.append(stranger.channel)
        return stranger

    yield serve
    for each in reversed(made):
        each.shutdown() if isinstance(each, broker.Daemon) else each.close()
