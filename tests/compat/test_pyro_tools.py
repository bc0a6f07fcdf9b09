"""Programs and tools in processes of their own: `python -m broker.compat …`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
COMPAT = [sys.executable, "-m", "broker.compat"]


def run(*arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPAT, *arguments], capture_output=True, text=True, timeout=60, check=False, input=text,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_scripts_get_their_arguments_and_modules_their_names(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, Pyro4, Pyro4.core, Pyro5.api\n"
        "print(sys.argv[1:], __name__, Pyro4.URI is Pyro4.core.URI is Pyro5.api.URI, sys.path[0])\n"
        "print(repr(Pyro4.Proxy('PYRO:o@h:1')).partition(' at ')[0], Pyro4.errors.NamingError)\n"
        "sys.exit(7)\n"
    )
    result = run(str(script), "one", "-two")
    assert result.returncode == 7, result.stderr
    assert result.stdout.splitlines() == [
        f"['one', '-two'] __main__ True {tmp_path}",
        "<Pyro4.core.Proxy <class 'Pyro4.errors.NamingError'>",
    ]


def test_child_processes_find_pyro_too() -> None:
    code = (
        "import subprocess, sys, pickle, Pyro5.api, Pyro5.errors\n"
        "print(pickle.loads(pickle.dumps(Pyro5.errors.NamingError('x'))), flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import Pyro5.core; print(Pyro5.core.URI(\"PYRONAME:x@h\"))'])\n"
    )
    result = run("-c", code)
    assert result.stdout.splitlines() == ["x", "PYRONAME:x@h:9090"]


def test_usage_and_no_arguments() -> None:
    assert "python -m broker.compat my_server.py" in run("--help").stdout
    nothing = run()
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("usage: python -m broker.compat")


def test_pytest_runs_tests_that_were_written_for_pyro(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("import Pyro5.api\n\n\ndef test_it():\n    Pyro5.api.URI('PYRO:o@h:1')\n")
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))
    assert "1 passed" in result.stdout, result.stdout


def test_everything_that_programs_import_is_there() -> None:
    code = """
import importlib
names = {
    "Pyro4": "config URI Proxy Daemon callback batch asyncproxy oneway expose behavior current_context locateNS resolve"
             " Future core errors naming util futures socketutil constants",
    "Pyro4.core": "URI Proxy Daemon DaemonObject callback batch asyncproxy oneway expose behavior current_context",
    "Pyro4.naming": "NameServer NameServerDaemon locateNS resolve startNS startNSloop type_meta main",
    "Pyro4.nsc": "main handleCommand", "Pyro4.futures": "Future FutureResult _ExceptionWrapper",
    "Pyro4.util": "excepthook getPyroTraceback formatTraceback SerializerBase get_serializer",
    "Pyro4.errors": "PyroError CommunicationError ConnectionClosedError TimeoutError ProtocolError NamingError"
                    " DaemonError SecurityError SerializeError MessageTooLargeError",
    "Pyro4.constants": "VERSION DAEMON_NAME NAMESERVER_NAME PROTOCOL_VERSION", "Pyro4.configuration": "config dump",
    "Pyro4.socketutil": "getIpAddress getIpVersion getInterfaceAddress findProbablyUnusedPort bindOnUnusedPort",
    "Pyro4.utils.echoserver": "EchoServer main", "Pyro4.test.echoserver": "EchoServer main", "Pyro4.message": "Message",
    "Pyro5": "config __version__", "Pyro5.client": "Proxy BatchProxy SerializedBlob",
    "Pyro5.core": "URI locate_ns resolve type_meta DAEMON_NAME NAMESERVER_NAME",
    "Pyro5.configure": "Configuration global_config",
    "Pyro5.server": "Daemon DaemonObject serve expose behavior callback oneway is_private_attribute",
    "Pyro5.errors": "PyroError get_pyro_traceback format_traceback excepthook", "Pyro5.nsc": "main handle_command",
    "Pyro5.nameserver": "NameServer NameServerDaemon start_ns start_ns_loop main MemoryStorage SqlStorage",
    "Pyro5.callcontext": "current_context", "Pyro5.serializers": "SerializerBase serializers",
    "Pyro5.socketutil": "get_ip_address get_interface find_probably_unused_port bind_unused_port SocketConnection",
    "Pyro5.protocol": "PROTOCOL_VERSION", "Pyro5.utils.echoserver": "EchoServer main",
}
for module, wanted in names.items():
    missing = [name for name in wanted.split() if not hasattr(importlib.import_module(module), name)]
    print(module, missing) if missing else None
import Pyro5.api
print([name for name in Pyro5.api.__all__ if not hasattr(Pyro5.api, name)])
from Pyro5.compatibility import Pyro4
print(Pyro4.locateNS)
"""
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "[]", lines
    assert "function locate_ns" in lines[1]


def test_check_config() -> None:
    result = run(
        "-m",
        "Pyro5.configure",
        PYRO_NS_PORT="1234",
        PYRO_WHAT_IS_THIS="1",
        PYRO_LOGLEVEL="INFO",
        PYRO_LOGFILE="{stderr}",
    )
    assert result.returncode == 0, result.stderr
    assert "NS_PORT = 1234" in result.stdout.splitlines()
    assert "SERIALIZER = serpent" in result.stdout.splitlines()


def test_name_server_echo_server_and_control_tool(run_program: Run, tmp_path: Path) -> None:
    echo, naming, nsc = "Pyro5.utils.echoserver", "Pyro5.nameserver", "Pyro5.nsc"
    server = run_program(None, *COMPAT[1:], "-m", naming, "-p", "0", "-s", f"sql:{tmp_path / 'names'}")
    port = server.line("URI = ").rpartition(":")[2]
    assert "Persistent store contains 0 existing registrations.\n" in server.output
    echoing = run_program(None, *COMPAT[1:], "-m", echo, "-n", "-v", environment={"PYRO_NS_PORT": port})
    uri = echoing.line("echo uri: ")
    assert echoing.line("object name: ") == "test.echoserver"
    echoing.line("echoserver running.")
    assert f"using name server at PYRO:Pyro.NameServer@localhost:{port}\n" in echoing.output
    lookup = run("-m", nsc, "-v", "lookup", "test.echoserver", PYRO_NS_PORT=port)
    assert lookup.stdout.splitlines()[:2] == [
        "Locating name server...",
        f"Name server found: PYRO:Pyro.NameServer@localhost:{port}",
    ]
    assert lookup.stdout.splitlines()[2:] == [uri, "Done."]
    client = """
import Pyro5.api
with Pyro5.api.Proxy("PYRONAME:test.echoserver") as echo:
    print(echo.echo("hello"), list(echo.generator()), echo.nan(), echo.inf(), echo.__dunder__(), echo.verbose)
    echo.oneway_echo("one way")
    for error in (echo.error, echo.error_with_text):
        try:
            error()
        except ValueError as x:
            print(x)
    echo.shutdown()
"""
    assert run("-c", client, PYRO_NS_PORT=port).stdout.splitlines() == [
        "hello ['one', 'two', 'three'] nan inf should be allowed (dunder) True",
        "this is the generated error from echoserver echo() method",
        "the message of the error",
    ]
    assert echoing.wait() == 0
    assert any(re.match(r".* - echo: 'hello'", line) for line in echoing.output)
    unknown = run("-m", nsc, "lookup", "nothing", PYRO_NS_PORT=port)
    assert (unknown.returncode, unknown.stdout) == (1, "Error: NamingError - unknown name: nothing\n")
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0


def test_an_echo_server_with_a_name_server_of_its_own(run_program: Run) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    echoing = run_program(None, *COMPAT[1:], "-m", "Pyro5.utils.echoserver", "-N", environment={"PYRO_NS_PORT": port})
    echoing.line("echoserver running.")
    assert (
        "test.echoserver --> PYRO:test.echoserver@localhost:"
        in run("-m", "Pyro5.nsc", "list", PYRO_NS_PORT=port).stdout
    )


def test_serve_prints_where_and_under_which_name(run_program: Run) -> None:
    code = """
import Pyro5.api
@Pyro5.api.expose
class Thing:
    def ping(self): pass
Pyro5.api.serve({Thing: None, Thing(): "named"}, use_ns=False)
"""
    server = run_program(None, *COMPAT[1:], "-c", code)
    server.line("Pyro daemon running.")
    assert server.output[0] == "Object <class '__main__.Thing'>:\n"
    assert re.fullmatch(r"    uri = PYRO:obj_[0-9a-f]{32}@localhost:\d+\n", server.output[1])
    assert re.fullmatch(r"    uri = PYRO:named@localhost:\d+\n", server.output[3])
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0


def test_sockets_that_make_sense() -> None:
    from broker.compat import Pyro4, Pyro5

    assert str(Pyro5.socketutil.get_ip_address("localhost", version=4)) == "127.0.0.1"
    assert Pyro4.socketutil.getIpAddress("127.0.0.1") == "127.0.0.1"
    assert Pyro4.socketutil.getIpVersion("127.0.0.1") == 4
    assert Pyro4.socketutil.getInterfaceAddress("127.0.0.1") == "127.0.0.1"
    assert 1024 < Pyro5.socketutil.find_probably_unused_port() < 65536
