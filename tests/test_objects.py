"""What a daemon holds."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from broker.codecs import TypeRegistry
from broker.connection.workers import Workers
from broker.decorators import behavior, expose
from broker.errors import DaemonError, ObjectNotFound
from broker.objects import Maker, ObjectTable, Registration, Sessions, SessionState
from broker.turns import Gate, Lanes
from broker.uri import URI
from tests.connection.conftest import both


class Thing:
    def hello(self) -> str:
        return "hello"


@pytest.fixture
def table() -> ObjectTable:
    published = {"a.name": URI("BROKER:first@here:1")}
    return ObjectTable("here:1", require_expose=False, types=TypeRegistry(), published=published.get)


def start_all(function: Callable[[], object], number: int) -> None:
    """Calls the function in so many threads at once, and waits for all."""
    together = threading.Barrier(number)
    errors: list[BaseException] = []

    def run() -> None:
        together.wait(10)
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert errors == []


# ---- the table


def test_an_object_is_found_by_itself_by_its_id_and_by_its_name(table: ObjectTable) -> None:
    thing = Thing()
    registration, before = table.add(thing, "first")
    assert before is None
    assert table.get(thing) is table.get("first") is table.get("a.name") is registration
    assert table.find("first") is table.find("a.name") is registration
    assert table.find("nothing") is None
    assert registration.where == "'first' at here:1"
    assert table.registrations == {"first": registration}


def test_an_id_wins_over_a_name(table: ObjectTable) -> None:
    table.add(Thing(), "first")
    named, _ = table.add(Thing(), "a.name")
    assert table.find("a.name") is named


def test_identity_tells_objects_apart(table: ObjectTable) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

        def norm(self) -> int:
            return self.x

    one, two = Point(1), Point(1)
    assert one == two
    first, _ = table.add(one, None)
    second, _ = table.add(two, None)
    assert (table.get(one), table.get(two)) == (first, second)
    assert first.object_id != second.object_id


def test_ids_are_generated(table: ObjectTable) -> None:
    ids = {table.add(Thing(), None)[0].object_id for _ in range(10)}
    assert all(len(object_id) == 36 and object_id.startswith("obj_") for object_id in ids)
    assert len(ids) == 10


@pytest.mark.parametrize("bad", ["", "a b", "a@b", "tab\t"])
def test_what_cannot_stand_in_a_uri_is_no_id(table: ObjectTable, bad: str) -> None:
    with pytest.raises(DaemonError, match="is no object id"):
        table.add(Thing(), bad)
    with pytest.raises(TypeError, match="an object id is a str, not int"):
        table.add(Thing(), 7)  # type: ignore[arg-type]


def test_a_taken_id_is_refused_unless_it_is_replaced(table: ObjectTable) -> None:
    first, second = Thing(), Thing()
    before, _ = table.add(first, "x")
    with pytest.raises(DaemonError, match="'x' is taken at here:1 by the Thing object: register"):
        table.add(second, "x")
    after, replaced = table.add(second, "x", replace=True)
    assert replaced is before
    assert table.get("x") is table.get(second) is after
    with pytest.raises(ObjectNotFound):
        table.get(first)
    table.add(first, "y")  # it is free again


def test_an_object_has_one_id(table: ObjectTable) -> None:
    thing = Thing()
    table.add(thing, "x")
    with pytest.raises(DaemonError, match="the Thing object is registered already, as 'x' at here:1"):
        table.add(thing, "y")
    again, before = table.add(thing, "x", replace=True)
    assert before is not again
    table.add(Thing, "class")
    with pytest.raises(DaemonError, match="class Thing is registered already, as 'class'"):
        table.add(Thing, None)


def test_a_removed_object_is_gone_and_not_held(table: ObjectTable) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    table.add(thing, "x")
    table.remove(thing)
    with pytest.raises(ObjectNotFound, match="'x' is not registered with the daemon at here:1"):
        table.remove("x")
    del thing
    gc.collect()
    assert seen() is None
    assert table.registrations == {}


def test_what_has_nothing_remote_is_refused(table: ObjectTable) -> None:
    class Empty:
        value = 3

    class Hidden:
        def method(self) -> None: ...

    marked = ObjectTable("here:1", require_expose=True, types=TypeRegistry(), published=lambda name: None)
    with pytest.raises(DaemonError, match="nothing of Empty is remote: it has no public method or property"):
        table.add(Empty(), None)
    with pytest.raises(DaemonError, match=r"mark members with @broker.expose \(require_expose is set\)"):
        marked.add(Hidden(), None)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2"])
def test_a_limit_is_a_number_from_one_on(table: ObjectTable, limit: int) -> None:
    with pytest.raises(ValueError, match="max_concurrency is a number from 1 on"):
        table.add(Thing(), None, max_concurrency=limit)


def test_hidden_members_are_told_in_the_log(table: ObjectTable, caplog: pytest.LogCaptureFixture) -> None:
    class Half:
        @expose
        def shown(self) -> None: ...

        def hidden(self) -> None: ...

    with caplog.at_level("INFO", logger="broker"):
        table.add(Half(), "half")
    assert caplog.messages == ["'half' at here:1: 1 remote members; hidden by @expose marks: hidden"]


def test_many_threads_register_and_remove(table: ObjectTable) -> None:
    def work() -> None:
        for _ in range(200):
            thing = Thing()
            table.add(thing, None)
            table.get(thing)
            table.remove(thing)

    start_all(work, 8)
    assert table.registrations == {}
    assert table._by_target == {}


# ---- instances


def register(table: ObjectTable, cls: type) -> Registration:
    return table.add(cls, None)[0]


@pytest.mark.parametrize(("mode", "instances"), [("session", 2), ("single", 1), ("percall", 100)])
def test_instances_are_made_once_however_many_calls_come_first(table: ObjectTable, mode: str, instances: int) -> None:
    made: list[object] = []

    @behavior(instance_mode=mode)  # type: ignore[arg-type]
    class Falsy:
        def __init__(self) -> None:
            made.append(self)
            threading.Event().wait(0.002)

        def __len__(self) -> int:
            return 0

    registration = register(table, Falsy)
    for state in (SessionState(), SessionState()):
        start_all(lambda state=state: registration.instance(state), 50)  # type: ignore[misc]
    assert len(made) == instances


def test_a_session_class_without_a_session_gets_a_fresh_instance(table: ObjectTable) -> None:
    registration = register(table, Thing)
    assert registration.keeps_instances
    assert registration.instance(None) is not registration.instance(None)


def test_an_instance_that_cannot_be_made_is_tried_again(table: ObjectTable) -> None:
    attempts: list[int] = []

    @behavior(instance_mode="single")
    class Late:
        def __init__(self) -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError("not yet")

        def hello(self) -> None: ...

    registration = register(table, Late)
    with pytest.raises(OSError, match="not yet"):
        registration.instance(None)
    assert registration.instance(None) is registration.instance(None)


def test_an_instance_creator_makes_what_it_says(table: ObjectTable) -> None:
    @behavior(instance_mode="percall", instance_creator=lambda cls: cls(3))
    class Made:
        def __init__(self, value: int) -> None:
            self.value = value

        def hello(self) -> None: ...

    made = register(table, Made).instance(None)
    assert isinstance(made, Made)
    assert made.value == 3


@pytest.mark.parametrize("wrong", [None, "text", object()])
def test_an_instance_creator_of_another_type_is_an_error(table: ObjectTable, wrong: object) -> None:
    @behavior(instance_creator=lambda cls: wrong)
    class Made:
        def hello(self) -> None: ...

    with pytest.raises(
        TypeError, match=f"instance creator returned object of different type: {type(wrong).__name__}, not Made"
    ):
        register(table, Made).instance(SessionState())


def test_an_instance_whose_making_asks_for_itself_is_an_error_and_no_deadlock() -> None:
    maker = Maker()
    with pytest.raises(RuntimeError, match="'x' at here is called while its instance is being made"):
        maker.get(lambda: maker.get(object, "'x' at here"), "'x' at here")
    assert maker.get(lambda: 5, "x") == 5


def test_a_class_that_is_registered_anew_gets_new_instances(table: ObjectTable) -> None:
    state = SessionState()
    first = table.add(Thing, "x")[0].instance(state)
    second = table.add(Thing, "x", replace=True)[0]
    assert second.instance(state) is not first
    assert second.instance(state) is second.instance(state)


# ---- sessions


class Resource:
    def __init__(self, closed: list[object], error: BaseException | None = None) -> None:
        self._closed, self._error = closed, error

    def close(self) -> None:
        self._closed.append(self)
        if self._error is not None:
            raise self._error

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_resources_are_closed_in_the_reverse_order_whatever_they_raise(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[object] = []
    state = SessionState()
    resources = [Resource(closed, error) for error in (None, SystemExit(), ValueError("x"), None)]
    for resource in resources:
        state.track(resource)
    state.track(object())  # which has no close at all
    state.on_close(lambda: closed.append("function"))
    state.close()
    state.close()
    assert [id(thing) for thing in closed[:-1]] == [id(resource) for resource in reversed(resources)]
    assert closed[-1] == "function"
    assert caplog.text.count("what was to happen at the end of a session failed") == 3


def test_a_resource_that_is_untracked_stays_open() -> None:
    closed: list[object] = []
    state = SessionState()
    resource, other = Resource(closed), Resource(closed)
    state.track(resource)
    state.track(other)
    state.untrack(resource)
    state.untrack(resource)
    state.close()
    assert [id(thing) for thing in closed] == [id(other)]


def test_what_is_tracked_after_the_end_is_closed_at_once() -> None:
    closed: list[object] = []
    state = SessionState()
    state.close()
    state.track(Resource(closed))
    state.on_close(lambda: closed.append("function"))
    assert len(closed) == 2


def test_sessions_are_kept_by_connection_and_number() -> None:
    sessions = Sessions()
    one, two, other = sessions.open("a", 1), sessions.open("a", 2), sessions.open("b", 1)
    assert sessions.open("a", 1) is one
    assert (sessions.find("a", 2), sessions.find("a", 3), sessions.find("c", 1)) == (two, None, None)
    assert len(sessions) == 3
    assert sessions.take("a", 1) == [one]
    assert sessions.take("a", 1) == []
    assert sessions.take_all("a") == [two]
    assert sessions.take("b", 1) == [other]
    assert len(sessions) == 0
    assert sessions._states == {}


# ---- order


@pytest.mark.parametrize("limit", [1, 3])
def test_a_gate_lets_so_many_in_and_in_order_of_arrival(limit: int) -> None:
    gate = Gate(limit)
    started: list[int] = []
    for number in range(6):
        gate.enter(lambda number=number: started.append(number))  # type: ignore[misc]
    assert started == list(range(limit))
    for number in range(limit, 6):
        gate.leave()
        assert started == list(range(number + 1))
    for _ in range(limit):
        gate.leave()
    gate.enter(lambda: started.append(99))
    assert started[-1] == 99


def test_a_gate_without_limit_lets_all_in() -> None:
    gate = Gate(None)
    started: list[int] = []
    for number in range(100):
        gate.enter(lambda number=number: started.append(number))  # type: ignore[misc]
    assert started == list(range(100))


def test_what_ends_as_it_starts_needs_no_stack() -> None:
    gate, lanes = Gate(1), Lanes()
    ended: list[int] = []
    gate.enter(lambda: None)
    lanes.enter("lane", lambda: None)
    for number in range(5000):
        gate.enter(both(lambda number=number: ended.append(number), gate.leave))  # type: ignore[misc]
        lanes.enter("lane", lambda: lanes.leave("lane"))
    gate.leave()
    lanes.leave("lane")
    assert ended == list(range(5000))
    assert len(lanes) == 0


def test_a_start_that_fails_closes_no_gate(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("a fault")

    gate = Gate(2)
    started: list[int] = []
    for start in (lambda: None, lambda: None, fail, lambda: started.append(1), lambda: started.append(2)):
        gate.enter(start)
    gate.leave()
    gate.leave()
    assert started == [1]
    gate.leave()
    assert started == [1, 2]


def test_a_gate_under_many_threads_never_lets_too_many_in() -> None:
    gate, workers = Gate(3), Workers(8, "test")
    lock, done = threading.Lock(), threading.Event()
    inside = most = ended = 0

    def job() -> None:
        nonlocal inside, most, ended
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1
            ended += 1
        gate.leave()
        if ended == 4000:
            done.set()

    def submit_all() -> None:
        for _ in range(1000):
            gate.enter(lambda: workers.submit(job))

    start_all(submit_all, 4)
    assert done.wait(10)
    assert most <= 3


def test_lanes_do_not_wait_for_each_other_and_leave_nothing_behind() -> None:
    lanes = Lanes()
    started: list[str] = []
    for key, name in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")):
        lanes.enter(key, lambda name=name: started.append(name))  # type: ignore[misc]
    assert started == ["a1", "b1"]
    assert len(lanes) == 2
    lanes.leave("b")
    assert started == ["a1", "b1", "b2"]
    lanes.leave("a")
    lanes.leave("a")
    lanes.leave("b")
    assert started == ["a1", "b1", "b2", "a2"]
    assert len(lanes) == 0
