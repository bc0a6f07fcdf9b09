"""Which members of an object are remote where that is said as it is registered; objects that are registered weakly."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker
from broker.errors import DaemonError, ObjectNotFound


class Warehouse:
    """Someone else's class."""

    def __init__(self) -> None:
        self.contents = ["chair", "couch"]

    def list_contents(self) -> list[str]:
        return self.contents

    def take(self, item: str) -> None:
        """Takes an item away."""
        self.contents.remove(item)

    def _audit(self) -> str:
        return "audited"

    def __dunder__(self) -> str:
        return "dunder"

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def first(self) -> str:
        return self.contents[0]

    limit = 7


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as started:
        yield started


# ---- members


def test_named_members_and_no_others_are_remote(daemon: broker.Daemon) -> None:
    proxy = broker.Proxy(daemon.register(Warehouse(), members=["list_contents", "first", "__len__"]))
    assert (proxy.list_contents(), proxy.first, len(proxy)) == (["chair", "couch"], "chair", 2)
    with pytest.raises(AttributeError, match=r"no remote member 'take' \(it has: __len__, first, list_contents\)"):
        proxy.take("chair")


def test_marks_do_not_matter_then(daemon: broker.Daemon) -> None:
    class Marked(Warehouse):
        @broker.expose
        def extra(self) -> str:
            return "extra"

    proxy = broker.Proxy(daemon.register(Marked(), members=["list_contents"]))
    assert proxy.list_contents() == ["chair", "couch"]
    with pytest.raises(AttributeError, match="no remote member 'extra'"):
        proxy.extra()


def test_members_have_the_remote_names_that_they_are_given(daemon: broker.Daemon) -> None:
    proxy = broker.Proxy(
        daemon.register(Warehouse(), members={"audit": "_audit", "remove": "take", "special": "__dunder__"})
    )
    assert (proxy.audit(), proxy.special()) == ("audited", "dunder")
    proxy.remove("chair")
    assert proxy.remove.__doc__ == "Takes an item away."
    with pytest.raises(AttributeError, match="no remote member 'take'"):
        proxy.take("couch")


def test_one_object_shows_others_different_sides(daemon: broker.Daemon) -> None:
    warehouse = Warehouse()
    daemon.register(warehouse, "warehouse", members=["list_contents"])
    admin = broker.Proxy(daemon.register(warehouse, "admin", members=["take", "list_contents"]))
    visitor = broker.Proxy(daemon.uri_for("warehouse"))
    admin.take("chair")
    assert visitor.list_contents() == ["couch"]
    with pytest.raises(AttributeError, match="no remote member 'take'"):
        visitor.take("couch")
    assert daemon.uri_for(warehouse).object == "warehouse"  # as which it travels
    daemon.unregister("warehouse")
    assert daemon.uri_for(warehouse).object == "admin"
    assert admin.list_contents() == ["couch"]
    with pytest.raises(DaemonError, match="is registered already, as 'admin'"):
        daemon.register(warehouse, "again")


def test_an_object_without_members_can_be_held_and_handed_back(daemon: broker.Daemon) -> None:
    class Desk:
        def __init__(self) -> None:
            self.ticket = Warehouse()

        def issue(self) -> Warehouse:
            return self.ticket

        def accepts(self, ticket: Any) -> bool:
            return isinstance(ticket, broker.Proxy) and ticket._broker.uri == daemon.uri_for(self.ticket)

    desk = Desk()
    daemon.register(desk.ticket, "ticket", members=())
    proxy = broker.Proxy(daemon.register(desk, members=["issue", "accepts"]))
    assert proxy.accepts(proxy.issue())
    with pytest.raises(AttributeError, match=r"it has: nothing"):
        proxy.issue().take("chair")


def test_the_class_is_read_each_time(daemon: broker.Daemon) -> None:
    cls = type("Growing", (Warehouse,), {})
    growing = cls()
    daemon.register(growing, "x", members=["take"])
    cls.added = lambda self: "added"  # type: ignore[attr-defined]
    daemon.register(growing, "x", replace=True, members=["added"])
    assert broker.Proxy(daemon.uri_for("x")).added() == "added"


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ("take", TypeError, "members is a collection of names"),
        (3, TypeError, "members is a collection of names"),
        (["_audit"], DaemonError, "'_audit' is private and never remote: say"),
        ({"__dunder__": "take"}, DaemonError, "'__dunder__' is private"),
        ({"a.b": "take"}, DaemonError, "'a.b' is private"),
        (
            ["stowe"],
            DaemonError,
            r"Warehouse has no method or property 'stowe' .*it has: __len__, first, list_contents",
        ),
        (["limit"], DaemonError, "no method or property 'limit'"),
        (["contents"], DaemonError, "no method or property 'contents'"),
    ],
)
def test_what_cannot_be_remote_is_refused(daemon: broker.Daemon, members: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        daemon.register(Warehouse(), "x", members=members)
    assert daemon.objects == {}


# ---- weakly


@dataclasses.dataclass
class Job:
    """Equal to others, and not hashable."""

    name: str = "job"
    called: Callable[[], None] = lambda: None

    def ping(self) -> str:
        self.called()
        return self.name


def test_a_weakly_registered_object_goes_with_its_last_reference(daemon: broker.Daemon) -> None:
    job = Job()
    proxy = broker.Proxy(daemon.register(job, "job", weak=True))
    assert [proxy.ping() for _ in range(3)] == ["job"] * 3
    assert daemon.objects == {"job": job}
    del job
    gc.collect()
    assert daemon.objects == {}
    with pytest.raises(ObjectNotFound, match="there is no object 'job'"):
        proxy.ping()
    successor = Job("successor")
    daemon.register(successor, "job", replace=True)
    assert proxy.ping() == "successor"


def test_its_names_go_too(daemon: broker.Daemon) -> None:
    with broker.start_ns("localhost", 0) as server, broker.locate_ns(*server.address) as names:
        job = Job()
        daemon.register(job, "job", weak=True)
        names.register("the.job", job)
        with broker.config.override(ns_port=server.address[1]):
            assert broker.Proxy("BROKERNAME:the.job").ping() == "job"
        gone = threading.Event()
        watching = threading.Thread(target=lambda: _wait_until(lambda: "the.job" not in names.list(), gone))
        watching.start()
        del job
        gc.collect()
        assert gone.wait(10)
        watching.join(10)


def _wait_until(holds: Callable[[], bool], told: threading.Event) -> None:
    for _ in range(1000):
        if holds():
            told.set()
            return
        threading.Event().wait(0.01)


@dataclasses.dataclass
class Report:
    text: str = "report"

    def read(self) -> str:
        return self.text


def test_while_it_is_there_it_travels_as_a_reference(daemon: broker.Daemon) -> None:
    class Office:
        report: Any = Report()

        def current(self) -> Any:
            return self.report

    office = Office()
    daemon.register(office.report, "report", weak=True)
    proxy = broker.Proxy(daemon.register(office))
    assert proxy.current().read() == "report"
    Office.report = None
    gc.collect()
    others = [Report("other") for _ in range(100)]  # one of them lies where the first one was
    for office.report in others:
        assert proxy.current().text == "other"  # a copy: a proxy has no such member


def test_a_call_that_waited_until_it_was_gone_is_refused(daemon: broker.Daemon) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        go_on.wait(10)

    job: Any = Job(called=wait)
    executor = broker.LoopExecutor()
    proxy = broker.Proxy(daemon.register(job, "job", weak=True, executor=executor))
    called = proxy.ping.future()
    job = None
    gc.collect()
    daemon.request_loop(until=called.done, executor=executor)
    with pytest.raises(ObjectNotFound, match="there is no object 'job'"):
        called.result(10)


def test_a_call_keeps_it_alive(daemon: broker.Daemon) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        go_on.wait(10)

    job: Any = Job(called=wait)
    proxy = broker.Proxy(daemon.register(job, "job", weak=True))
    called = proxy.ping.future()
    assert began.wait(10)
    job = None
    gc.collect()
    assert "job" in daemon.objects
    go_on.set()
    assert called.result(10) == "job"


@pytest.mark.parametrize("target", [Job, (1, 2), [], object()])
def test_what_has_no_weak_references_is_refused(daemon: broker.Daemon, target: object) -> None:
    with pytest.raises(TypeError, match="weak=True"):
        daemon.register(target, "x", members=(), weak=True)
    assert daemon.objects == {}
