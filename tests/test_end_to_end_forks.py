"""Forks after use: the parent goes on, the child has connections of its own, and where it cannot it says so at once.

The programs that fork are started anew: those of the tests are forked themselves, else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

SERVER = """
    import broker, os, threading

    class Workshop:
        def __init__(self):
            self.go = threading.Event()
        def add(self, a, b):
            return a + b
        def pid(self):
            return os.getpid()
        def wait(self):
            self.go.wait(60)
            return "waited"
        def release(self):
            self.go.set()
        def numbers(self):
            yield from range(1_000_000)

    @broker.behavior(instance_mode="session")
    class Counter:
        def __init__(self):
            self.count = 0
        def increment(self):
            self.count += 1
            return self.count

    daemon = broker.Daemon()
    print("workshop", daemon.register(Workshop(), "workshop"))
    print("counter", daemon.register(Counter, "counter"))
    daemon.request_loop()
"""

FORK = """
    import broker, os, signal, sys, threading, time, warnings
    from broker import errors

    # Python says so of every fork beside threads from 3.12 on; whether it is true here, these programs find out.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def forked(function, *args):
        \"\"\"The exit code of a child process that calls the function; one that hangs ends by SIGALRM.\"\"\"
        child = os.fork()
        if not child:
            signal.alarm(50)
            try:
                function(*args)
            except Exception as error:
                print("child failed:", repr(error), flush=True)
                os._exit(1)
            sys.exit(0)  # with all that the end of an interpreter does
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def fork_meanwhile(calls, threads, forks):
        \"\"\"Forks children that make a call, while each thread makes calls(thread, round) without a pause.\"\"\"
        over, made = threading.Event(), []

        def hammer(number):
            count = 0
            while not over.is_set():
                calls(number, count)
                count += 1
            made.append(count)

        hammering = [threading.Thread(target=hammer, args=(number,)) for number in range(threads)]
        for thread in hammering:
            thread.start()
        codes = [forked(lambda: workshop.add(1, 2)) for _ in range(forks)]
        over.set()
        for thread in hammering:
            thread.join()
        assert codes == [0] * forks and len(made) == threads and all(made), (codes, made)

    workshop = broker.Proxy(sys.argv[1], local=False)
    counter = broker.Proxy(sys.argv[1].replace("workshop@", "counter@"), local=False)
    assert workshop.add(1, 2) == 3
"""


@pytest.fixture
def run(run_program: Run) -> Run:
    """Runs code behind FORK, which has a proxy for a workshop in another process."""
    uri = run_program(SERVER).line("workshop")

    def run(code: str, environment: dict[str, str] | None = None) -> Any:
        program = run_program(f"{FORK}\n{code}", uri, environment=environment, anew=True)
        assert program.wait(60) == 0, program.errors + str(program.output)
        assert "child failed" not in "".join(program.output)
        return program

    return run


def test_parent_and_children_go_on(run: Run) -> None:
    program = run("""
    def calls(number):
        assert workshop.add(number, 1) == number + 1
        assert workshop.add.future(number, 2).result(40) == number + 2
        assert next(workshop.numbers()) == 0
        assert forked(lambda: workshop.add(3, 4)) == 0  # a grandchild

    for number in range(5):
        assert forked(calls, number) == 0, number
        assert workshop.add(number, 1) == number + 1
    """)
    assert program.errors == ""


def test_forks_in_the_middle_of_calls_of_many_threads(run: Run) -> None:
    run("""
    def calls(number, count):
        assert workshop.add(number, count) == number + count
        assert workshop.add.future(number, count).result(40) == number + count

    fork_meanwhile(calls, threads=4, forks=10)
    """)


def test_what_was_under_way_ends_in_the_child_and_goes_on_in_the_parent(run: Run) -> None:
    run("""
    waiting = workshop.wait.future()
    numbers = workshop.numbers()
    assert next(numbers) == 0

    def look():
        try:
            waiting.result(40)
        except errors.BrokerError as error:
            assert "forked" in str(error) and error.may_have_run, error
        try:
            for _ in numbers:  # what has arrived is there, and then it says so
                pass
        except errors.ConnectionClosedError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("the stream is its parent's")
        assert not waiting.cancel()

    assert forked(look) == 0
    assert not waiting.done()
    workshop.release()
    assert waiting.result(40) == "waited" and next(numbers) == 1
    """)


def test_state_of_a_session_is_the_parents(run: Run) -> None:
    run("""
    assert counter.increment() == 1

    def count():
        try:
            counter.increment()
        except errors.ConnectionClosedError as error:
            assert not error.may_have_run
        assert counter.increment() == 1  # a session of its own

    assert forked(count) == 0
    assert counter.increment() == 2
    """)


def test_a_fork_does_not_need_the_peer(run_program: Run) -> None:
    """Its daemon is frozen: the fork is as quick as ever, and the child calls others."""
    frozen, other = run_program(SERVER), run_program(SERVER)
    program = run_program(
        FORK
        + """
    elsewhere = sys.argv[2]
    waiting = workshop.wait.future()
    frozen = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: frozen.set())
    print("ready", flush=True)
    frozen.wait()
    code = forked(lambda: broker.Proxy(elsewhere).add(1, 2))
    print("forked", code, flush=True)
    os._exit(0)
    """,
        frozen.line("workshop"),
        other.line("workshop"),
        anew=True,
    )
    program.line("ready")
    frozen.freeze()
    program.send_signal(signal.SIGUSR1)
    assert program.line("forked") == "0"
    frozen.send_signal(signal.SIGCONT)


def test_what_a_fork_costs(run_program: Run) -> None:
    """Printed for the manual; the bound is what a fork may be held up at most."""
    program = run_program(
        FORK.partition("    workshop = ")[0]
        + """
    import statistics

    def cost():
        times = []
        for _ in range(20):
            began = time.perf_counter()
            child = os.fork()
            if not child:
                os._exit(0)
            times.append(time.perf_counter() - began)
            os.waitpid(child, 0)
        return statistics.median(times) * 1000

    before = cost()
    assert broker.Proxy(sys.argv[1]).add(1, 2) == 3
    after = cost()
    print(f"a fork takes {before:.1f} ms without connections, and {after:.1f} ms with one", flush=True)
    assert after < before + 200
    """,
        run_program(SERVER).line("workshop"),
        anew=True,
    )
    assert program.wait() == 0, program.errors
    print(f"\n{program.output[0]}", end="")


def test_multiprocessing_by_fork(run: Run) -> None:
    run("""
    import multiprocessing
    context = multiprocessing.get_context("fork")

    def add(number):
        return workshop.add(number, 1)

    for _ in range(2):
        with context.Pool(3) as pool:
            assert pool.map(add, range(20)) == list(range(1, 21))
        assert workshop.add(1, 1) == 2
    """)


DAEMON = FORK.replace("sys.argv[1]", "str(uri)").replace(
    "    workshop = ",
    """
    class Workshop:
        def add(self, a, b):
            return a + b
        def add_in_a_child(self, a, b):
            child = os.fork()
            if not child:
                signal.alarm(50)
                os._exit(workshop.add(a, b))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        def numbers(self):
            yield from range(1_000_000)

    daemon = broker.Daemon()
    uri = daemon.register(Workshop(), "workshop")
    daemon.start()
    workshop = """,
)


def test_a_child_of_a_daemon_goes_on(run_program: Run) -> None:
    """Without its parent's daemon, which it can call, and with one of its own."""
    program = run_program(
        DAEMON
        + """
    def calls(number):
        assert workshop.add(number, 2) == number + 2
        assert next(workshop.numbers()) == 0
        try:
            daemon.register(object())
        except errors.DaemonError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("the daemon is its parent's")
        daemon.shutdown()
        with broker.Daemon() as own:
            assert broker.Proxy(own.register(Workshop()), local=False).add(3, number) == number + 3
            assert forked(lambda: workshop.add(3, 4)) == 0  # a grandchild, of two daemons
        assert workshop.add(number, 2) == number + 2

    for number in range(3):
        assert forked(calls, number) == 0, number
        assert workshop.add(1, 2) == 3
    assert workshop.add_in_a_child(1, 2) == 3  # by the thread that carries out the call
    daemon.shutdown()
    """,
        anew=True,
    )
    assert program.wait(60) == 0, program.errors + str(program.output)
    assert "child failed" not in "".join(program.output)
    assert program.errors == ""  # gRPC prints where a thread was inside it


def test_forks_of_a_daemon_that_is_called_without_a_pause(run_program: Run) -> None:
    program = run_program(
        DAEMON
        + """
    proxies = [broker.Proxy(uri, local=False) for _ in range(3)]

    def calls(number, count):
        assert proxies[number].add(1, 2) == 3
        assert proxies[number].add.future(1, 3).result(40) == 4

    fork_meanwhile(calls, threads=3, forks=20)
    daemon.shutdown()
    """,
        anew=True,
    )
    assert program.wait(60) == 0, program.errors + str(program.output)


def test_no_thread_of_a_daemon_is_left(run_program: Run) -> None:
    program = run_program("""
    import broker, threading, time

    class Room:
        def echo(self, value):
            return value

    for _ in range(10):
        with broker.Daemon() as daemon:
            assert broker.Proxy(daemon.register(Room()), local=False).echo(1) == 1
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        names = [thread.name for thread in threading.enumerate()]
        left = [name for name in names if "poller" in name or "serve" in name]
        if not left:
            break
        time.sleep(0.01)
    print("left", left, flush=True)
    """)
    assert program.line("left") == "[]"


def test_where_grpc_is_told_to_leave_forks_alone_the_child_says_so(run_program: Run) -> None:
    program = run_program(
        DAEMON
        + """
    def refused():
        for attempt in (
            lambda: workshop.add(1, 2),
            lambda: workshop.add.future(1, 2).result(5),
            lambda: broker.Proxy(uri).add(1, 2),
            lambda: broker.Daemon(),
            lambda: broker.locate_ns("localhost", 1),
            lambda: daemon.register(object()),
        ):
            began = time.monotonic()
            try:
                attempt()
            except errors.BrokerError as error:
                assert "forked" in str(error), error
                assert time.monotonic() - began < 10
            else:
                raise AssertionError("it went through")
        daemon.shutdown()

    for _ in range(3):
        assert forked(refused) == 0
        assert workshop.add(1, 2) == 3
    daemon.shutdown()
    print("over", flush=True)
    """,
        environment={"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    program.line("over")
    assert program.wait() == 0


def test_without_the_parts_of_grpc_that_are_needed_the_child_says_so(run: Run) -> None:
    """As the manual advises for it: else threads of gRPC's own in the child may be faster than what the child says."""
    run(
        """
    from broker.connection import completion
    completion.is_available = False
    workshop._broker.reconnect()
    elsewhere = broker.Proxy(workshop._broker.uri, local=False)
    from broker.connection.client import pool
    pool._connections.clear()
    assert elsewhere.add(1, 2) == 3

    def refused():
        try:
            elsewhere.add(1, 2)
        except errors.BrokerError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("it went through")

    for _ in range(3):
        assert forked(refused) == 0
        assert elsewhere.add(1, 2) == 3
    """,
        environment={"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
