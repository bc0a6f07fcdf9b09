"""What every test has around it: a configuration of its own, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from broker.config import config


@pytest.fixture(autouse=True)
def default_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The defaults, whatever the environment of the person who runs the tests says."""
    for name in [name for name in os.environ if name.startswith("BROKER_")]:
        monkeypatch.delenv(name)
    yield
    config.reset()
