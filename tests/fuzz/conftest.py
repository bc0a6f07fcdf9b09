"""What other tests of the process log is no fault of these, and no business of theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.serving import Faults


@pytest.fixture(autouse=True)
def faults_of_this_test() -> Iterator[None]:
    for faults in Faults.known:
        faults.go_on()
    yield
    for faults in Faults.known:
        faults.pause()
