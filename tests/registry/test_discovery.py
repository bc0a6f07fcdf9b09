"""Name servers that answer broadcasts, and who asks for them. Loopback addresses stand for the network."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

import broker
from broker.errors import DaemonError, NamingError
from broker.registry import discovery

URI = "BROKER:Broker.NameServer@names.example:9090"


@pytest.fixture
def beacon() -> Iterator[broker.Beacon]:
    with broker.Beacon(URI, "127.0.0.1", 0) as listening:
        yield listening


def ask(beacon: broker.Beacon, timeout: float = 10) -> broker.URI | None:
    return broker.discover_ns(beacon.address[1], addresses=["127.0.0.1"], timeout=timeout)


def test_who_asks_learns_where_it_is(beacon: broker.Beacon) -> None:
    thread = beacon.start()
    assert ask(beacon) == broker.URI(URI)
    beacon.close()
    thread.join(10)
    assert not thread.is_alive()
    assert beacon.fileno() == -1
    beacon.close()


def test_a_loop_of_the_programs_own_answers(beacon: broker.Beacon) -> None:
    found: list[broker.URI | None] = []
    asking = threading.Thread(target=lambda: found.append(ask(beacon)))
    asking.start()
    assert select.select([beacon], [], [], 10)[0] == [beacon]
    beacon.answer()
    beacon.answer()  # there is nothing more
    asking.join(10)
    assert found == [broker.URI(URI)]


def test_the_answer_may_depend_on_who_asks() -> None:
    with broker.Beacon(lambda asker: broker.URI(f"BROKER:for.{asker}@h:1"), "127.0.0.1", 0) as beacon:
        beacon.start()
        assert str(ask(beacon)) == "BROKER:for.127.0.0.1@h:1"


def test_nobody_is_there(beacon: broker.Beacon) -> None:
    beacon.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert broker.discover_ns(port, addresses=["127.0.0.1"], timeout=0.1) is None
    assert broker.discover_ns(port, addresses=[], timeout=10) is None
    assert broker.discover_ns(port, addresses=["no.such.host.invalid"], timeout=10) is None


def test_what_is_no_question_is_not_answered(beacon: broker.Beacon) -> None:
    question = (discovery._QUESTION + os.urandom(16)).ljust(512, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        for asked in (b"", b"\0" * 512, question[:-1], b"x" + question[1:], os.urandom(512)):
            asker.sendto(asked, beacon.address)
        asker.sendto(question, beacon.address)
        beacon.answer()
        asker.settimeout(10)
        answer = asker.recv(2048)
        assert answer.endswith(URI.encode())
        assert len(answer) <= len(question)  # who forges an address multiplies nothing
        asker.setblocking(False)
        with pytest.raises(BlockingIOError):
            asker.recv(2048)


def test_answers_to_other_questions_are_not_believed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forging:
        forging.bind(("127.0.0.1", 0))

        def forge() -> None:
            asked, asker = forging.recvfrom(2048)
            nonce = asked[len(discovery._QUESTION) :][:16]
            for answer in (
                discovery._ANSWER + os.urandom(16) + b"BROKER:forged@h:1",
                discovery._ANSWER + nonce + b"BROKERNAME:forged",
                discovery._ANSWER + nonce + b"\xff\xfe",
                b"",
                discovery._ANSWER + nonce + URI.encode(),
            ):
                forging.sendto(answer, asker)

        thread = threading.Thread(target=forge)
        thread.start()
        found = broker.discover_ns(forging.getsockname()[1], addresses=["127.0.0.1"], timeout=30)
        thread.join(10)
    assert found == broker.URI(URI)


def test_a_port_that_cannot_be_had_is_said() -> None:
    with pytest.raises(DaemonError, match=r"cannot answer broadcasts on 192\.0\.2\.1:\d+"):
        broker.Beacon(URI, "192.0.2.1", 0)


# ---- name servers


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broadcast goes to this machine alone, whose network need not have any."""
    original = broker.discover_ns
    monkeypatch.setattr("broker.registry.locate.discover_ns", lambda: original(addresses=["127.0.0.1"]))


@pytest.mark.usefixtures("asked_here")
def test_a_name_server_for_others_is_found(caplog: pytest.LogCaptureFixture) -> None:
    with broker.start_ns("0.0.0.0", 0, insecure=True) as server:
        assert server.beacon is None  # nobody asked for one
        beacon = server.answer_broadcasts("127.0.0.1", 0)
        assert beacon is not None
        assert f"Broadcast server running on 127.0.0.1:{beacon.address[1]}" in server.announcement
        with broker.config.override(ns_port=1, ns_broadcast_port=beacon.address[1]):
            with pytest.raises(NamingError, match="no name server found at"):
                broker.locate_ns()
            with broker.locate_ns(broadcast=True) as names:
                assert names.uri == broker.URI.direct("Broker.NameServer", "127.0.0.1", server.address[1])
                names.register("found", "BROKER:o@h:1")
            with broker.config.override(ns_broadcast=True):
                assert broker.resolve("BROKERNAME:found") == broker.URI("BROKER:o@h:1")
            with pytest.raises(NamingError):  # it was said where
                broker.locate_ns("localhost", 1, broadcast=True)
    assert beacon.fileno() == -1


@pytest.mark.usefixtures("asked_here")
def test_what_was_tried_is_said(beacon: broker.Beacon) -> None:
    beacon.close()
    with (
        broker.config.override(ns_port=1, ns_broadcast_port=2),
        pytest.raises(NamingError, match="and nobody answers a broadcast on port 2"),
    ):
        broker.locate_ns(broadcast=True)


def test_a_name_server_for_this_machine_alone_answers_no_broadcasts() -> None:
    with broker.start_ns("localhost", 0, broadcast=True) as server:
        assert server.is_local
        assert server.beacon is None
        assert server.announcement[0] == "Not starting broadcast server for localhost."


def test_the_address_by_which_another_machine_reaches_this_one() -> None:
    assert broker.address_towards("127.0.0.1") == "127.0.0.1"
    with pytest.raises(OSError):  # noqa: PT011  # the system says why in its own words
        broker.address_towards("no address")
