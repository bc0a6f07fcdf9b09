"""What only shows between whole processes: Ctrl-C, exits, forks, chains across processes, a library that is a guest."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import broker
from broker import errors

Run = Callable[..., Any]


def _python(code: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Runs code to its end."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


SERVER = """
    import broker, sys, time, threading
    class Server:
        def sleep(self, seconds): time.sleep(seconds); return "slept"
        def wait(self):
            print("waiting")
            print("cancelled" if broker.current_context.wait_cancelled(60) else "not cancelled")
        def ok(self): return True
    daemon = broker.Daemon()
    print("uri", daemon.register(Server(), "server"))
    daemon.request_loop()
    print("ended")
"""


def test_ctrl_c_ends_a_waiting_call_at_once_and_cancels_it(run_program: Run) -> None:
    server = run_program(SERVER)
    client = run_program(
        f"""
        import broker
        proxy = broker.Proxy({server.line("uri")!r})
        try:
            proxy.wait()
        except KeyboardInterrupt:
            print("interrupted")
        print("still", proxy.ok())
        """,
        anew=True,
    )
    server.line("waiting")
    client.send_signal(signal.SIGINT)
    client.line("interrupted", timeout=40)
    server.line("cancelled", timeout=40)
    assert client.line("still") == "True"
    assert client.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_request_loop_cleanly(run_program: Run, number: int) -> None:
    server = run_program(SERVER, anew=True)
    uri = server.line("uri")
    assert broker.Proxy(uri).ok()
    server.send_signal(number)
    server.line("ended")
    assert server.wait() == 0
    assert server.errors == ""


def test_forgotten_daemons_and_proxies_neither_hold_up_nor_print_at_exit() -> None:
    done = _python(
        """
        import broker
        class Server:
            def ok(self): return True
        daemon = broker.Daemon(); daemon.start()
        other = broker.Daemon()
        proxy = broker.Proxy(daemon.register(Server()))
        assert proxy.ok()
        import time; print(time.time())
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    (ended,) = done.stdout.splitlines()
    assert time.time() - float(ended) < 10


def test_a_process_exits_while_a_method_hangs() -> None:
    done = _python(
        """
        import broker, threading, time
        class Server:
            def hang(self): arrived.set(); time.sleep(1000)
        arrived = threading.Event()
        daemon = broker.Daemon(); daemon.start()
        proxy = broker.Proxy(daemon.register(Server()))
        threading.Thread(target=proxy.hang, daemon=True).start()
        arrived.wait(10)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_client_exits_at_once_although_its_connection_is_open(run_program: Run) -> None:
    server = run_program(SERVER)
    done = _python(f"import broker; assert broker.Proxy({server.line('uri')!r}).ok()")
    assert (done.returncode, done.stderr) == (0, "")


def test_oneway_calls_are_carried_out_although_their_caller_has_gone(run_program: Run) -> None:
    server = run_program(
        """
        import broker, time
        class Log:
            def __init__(self): self.lines = []
            @broker.oneway
            def write(self, line):
                time.sleep(0.05)
                self.lines.append(line)
                print("lines", self.lines)
            def __len__(self): return len(self.lines)
        daemon = broker.Daemon()
        print("uri", daemon.register(Log))  # an instance a session: the five calls are one
        daemon.request_loop()
        """
    )
    done = _python(
        f"""
        import broker
        log = broker.Proxy({server.line("uri")!r})
        for number in range(5):
            log.write(number)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    server.line("lines [0, 1, 2, 3, 4]")


def test_importing_and_using_changes_nothing_process_wide() -> None:
    done = _python(
        """
        import asyncio, logging, os, signal, warnings, sys, threading
        before = lambda: (dict(os.environ), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
                          type(asyncio.get_event_loop_policy()), list(logging.root.handlers),
                          logging.getLogger("broker").handlers, list(warnings.filters), sys.excepthook)
        asyncio.get_event_loop_policy()
        first = before()
        import broker
        second = before()
        class Server:
            def ok(self): return True
        with broker.Daemon() as daemon:
            assert broker.Proxy(daemon.register(Server())).ok()
            loop = threading.Timer(0.2, daemon.shutdown); loop.start()
            daemon.request_loop()
        third = before()
        for one, two, three in zip(first, second, third):
            assert one == two == three, (one, two, three)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_started_before_the_first_use_make_calls(run_program: Run, method: str) -> None:
    server = run_program(SERVER)
    done = _python(
        f"""
        import multiprocessing
        from operator import methodcaller  # a callable that a spawned child can import
        import broker
        proxy = broker.Proxy({server.line("uri")!r})
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(pool.map(methodcaller("ok"), [proxy] * 4))
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "[True, True, True, True]"


NODE = """
    import broker, sys
    class Node:
        def __init__(self): self.next = None
        def link(self, other): self.next = other
        def pass_on(self, n, lock=None):
            return 0 if n == 0 else 1 + self.next.pass_on(n - 1)
    daemon = broker.Daemon(max_workers=2)
    print("uri", daemon.register(Node()))
    daemon.request_loop()
"""


def test_circular_calls_through_three_processes_with_two_workers_each(run_program: Run) -> None:
    nodes: list[Any] = [broker.Proxy(run_program(NODE).line("uri")) for _ in range(3)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.link(following)
    assert nodes[0].pass_on(50) == 50
    with pytest.raises(errors.BrokerError, match="64 calls deep"):
        nodes[0].pass_on(100)
    results: list[int] = []
    callers = [threading.Thread(target=lambda: results.append(nodes[0].pass_on(9))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert results == [9, 9]


def test_a_peer_that_is_stopped_is_found(run_program: Run) -> None:
    server = run_program(SERVER)
    proxy: Any = broker.Proxy(server.line("uri"))
    assert proxy.ok()
    server.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(errors.ConnectionClosedError):
            proxy.ok()
        assert time.monotonic() - started < 40
    finally:
        server.send_signal(signal.SIGCONT)
