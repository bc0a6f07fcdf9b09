"""Programs and tools in processes of their own: `python -m broker.compat …`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from broker.compat import Pyro4, Pyro5

Run = Callable[..., Any]
COMPAT = [sys.executable, "-m", "broker.compat"]


def run(*arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPAT, *arguments], capture_output=True, text=True, timeout=60, check=False, input=text,
        env={**os.environ, **environment},
    )  # fmt: skip


# What is in the modules that programs import.
NAMES = {
    "Pyro4": "config URI Proxy Daemon callback batch asyncproxy oneway expose behavior current_context locateNS resolve"
    " Future core errors naming util futures socketutil constants",
    "Pyro4.core": "URI Proxy Daemon DaemonObject callback batch asyncproxy oneway expose behavior current_context",
    "Pyro4.naming": "NameServer NameServerDaemon locateNS resolve startNS startNSloop type_meta main",
    "Pyro4.nsc": "main handleCommand",
    "Pyro4.futures": "Future FutureResult _ExceptionWrapper",
    "Pyro4.util": "excepthook getPyroTraceback formatTraceback SerializerBase get_serializer",
    "Pyro4.errors": "PyroError CommunicationError ConnectionClosedError TimeoutError ProtocolError NamingError"
    " DaemonError SecurityError SerializeError MessageTooLargeError",
    "Pyro4.constants": "VERSION DAEMON_NAME NAMESERVER_NAME PROTOCOL_VERSION",
    "Pyro4.configuration": "config dump",
    "Pyro4.socketutil": "getIpAddress getIpVersion getInterfaceAddress findProbablyUnusedPort bindOnUnusedPort",
    "Pyro4.utils.echoserver": "EchoServer main",
    "Pyro4.test.echoserver": "EchoServer main",
    "Pyro4.message": "Message",
    "Pyro5": "config __version__",
    "Pyro5.client": "Proxy BatchProxy SerializedBlob",
    "Pyro5.core": "URI locate_ns resolve type_meta DAEMON_NAME NAMESERVER_NAME",
    "Pyro5.configure": "Configuration global_config",
    "Pyro5.server": "Daemon DaemonObject serve expose behavior callback oneway is_private_attribute",
    "Pyro5.errors": "PyroError get_pyro_traceback format_traceback excepthook",
    "Pyro5.nsc": "main handle_command",
    "Pyro5.nameserver": "NameServer NameServerDaemon start_ns start_ns_loop main MemoryStorage SqlStorage",
    "Pyro5.callcontext": "current_context",
    "Pyro5.serializers": "SerializerBase serializers",
    "Pyro5.socketutil": "get_ip_address get_interface find_probably_unused_port bind_unused_port SocketConnection",
    "Pyro5.protocol": "PROTOCOL_VERSION",
    "Pyro5.utils.echoserver": "EchoServer main",
}


def test_a_script(tmp_path: Path) -> None:
    """It has its arguments, exit code, environment and children, and knows the classes by Pyro's modules."""
    script = tmp_path / "program.py"
    script.write_text(
        "import subprocess, sys, pickle, Pyro4, Pyro4.core, Pyro5.api\n"
        "print(sys.argv[1:], __name__, Pyro4.URI is Pyro4.core.URI is Pyro5.api.URI, sys.path[0])\n"
        "print(repr(Pyro4.Proxy('PYRO:o@h:1')).partition(' at ')[0], Pyro4.errors.NamingError, Pyro4.config.NS_PORT)\n"
        "print(pickle.loads(pickle.dumps(Pyro5.errors.NamingError('x'))), flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import Pyro5.core; print(Pyro5.core.URI(\"PYRONAME:x@h\"))'])\n"
        "sys.exit(7)\n"
    )
    result = run(str(script), "one", "-two", PYRO_NS_PORT="1234", PYRO_LOGLEVEL="INFO", PYRO_LOGFILE="{stderr}")
    assert result.returncode == 7, result.stderr
    assert result.stdout.splitlines() == [
        f"['one', '-two'] __main__ True {tmp_path}",
        "<Pyro4.core.Proxy <class 'Pyro4.errors.NamingError'> 1234",
        "x",
        "PYRONAME:x@h:1234",
    ]


def test_usage_and_no_arguments() -> None:
    assert "python -m broker.compat my_server.py" in run("--help").stdout
    assert run("-m", "Pyro5.nameserver", "--help").stdout.startswith("usage: Pyro5.nameserver [-h] [-n HOST]")
    nothing = run()
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("usage: python -m broker.compat")


def test_pytest_runs_tests_that_were_written_for_pyro(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("import Pyro5.api\n\n\ndef test_it():\n    Pyro5.api.URI('PYRO:o@h:1')\n")
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed" in result.stdout, result.stdout


def test_everything_that_programs_import_is_there() -> None:
    for module, wanted in NAMES.items():
        found = import_module(f"broker.compat.{module}")
        assert [name for name in wanted.split() if not hasattr(found, name)] == [], module
    assert [name for name in Pyro5.api.__all__ if not hasattr(Pyro5.api, name)] == []
    assert import_module("broker.compat.Pyro5.compatibility").Pyro4 is Pyro4
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        Pyro4.nothing  # noqa: B018
    for module in ("Pyro4.utils.flame", "Pyro5.utils.httpgateway"):
        with pytest.raises(NotImplementedError, match="gRPC"):
            import_module(f"broker.compat.{module}").start  # noqa: B018


def test_name_server_echo_server_and_control_tool(
    run_program: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echo, naming = "Pyro5.utils.echoserver", "Pyro5.nameserver"
    server = run_program(None, *COMPAT[1:], "-m", naming, "-p", "0", "-s", f"sql:{tmp_path / 'names'}")
    port = server.line("URI = ").rpartition(":")[2]
    assert "Persistent store contains 0 existing registrations.\n" in server.output
    echoing = run_program(None, *COMPAT[1:], "-m", echo, "-n", "-v", environment={"PYRO_NS_PORT": port})
    uri = echoing.line("echo uri: ")
    assert echoing.line("object name: ") == "test.echoserver"
    echoing.line("echoserver running.")
    assert f"using name server at PYRO:Pyro.NameServer@localhost:{port}\n" in echoing.output
    Pyro5.config.NS_PORT = int(port)
    Pyro5.nsc.main(["-v", "lookup", "test.echoserver"])
    assert capsys.readouterr().out.splitlines() == [
        "Locating name server...",
        f"Name server found: PYRO:Pyro.NameServer@localhost:{port}",
        uri,
        "Done.",
    ]
    with Pyro5.api.Proxy("PYRONAME:test.echoserver") as proxy:
        assert (proxy.echo("hello"), list(proxy.generator())) == ("hello", ["one", "two", "three"])
        assert (str(proxy.nan()), proxy.inf(), proxy.verbose) == ("nan", float("inf"), True)
        assert proxy.__dunder__() == "should be allowed (dunder)"
        proxy.oneway_echo("one way")
        with pytest.raises(ValueError, match="this is the generated error from echoserver"):
            proxy.error()
        proxy.shutdown()
    assert echoing.wait() == 0
    assert any(re.match(r".* - echo: 'hello'", line) for line in echoing.output)
    with pytest.raises(SystemExit):
        Pyro5.nsc.main(["lookup", "nothing"])
    assert capsys.readouterr().out == "Error: NamingError - unknown name: nothing\n"
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0


def test_an_echo_server_with_a_name_server_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    Pyro5.config.NS_PORT = Pyro5.socketutil.find_probably_unused_port()
    daemon, echo, uri = import_module("broker.compat.Pyro5.utils.echoserver").main(["-N"], returnWithoutLooping=True)
    assert capsys.readouterr().out.splitlines()[-1] == "echoserver running."
    with Pyro5.api.locate_ns() as names, daemon:
        assert names.lookup("test.echoserver") == uri
        assert echo.echo(1) == 1
    Pyro5.api.Proxy(names._pyroUri)._pyroRelease()


def test_serve_prints_where_and_under_which_name(capsys: pytest.CaptureFixture[str]) -> None:
    @Pyro5.api.expose
    class Thing:
        def ping(self) -> None:
            pass

    class Ending(Pyro5.api.Daemon):  # type: ignore[misc]
        def requestLoop(self) -> None:
            pass

    Pyro5.api.serve({Thing: None, Thing(): "named"}, daemon=Ending(), use_ns=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Object {Thing!r}:"
    assert re.fullmatch(r"    uri = PYRO:obj_[0-9a-f]{32}@localhost:\d+", lines[1])
    assert re.fullmatch(r"    uri = PYRO:named@localhost:\d+", lines[3])
    assert lines[4:] == ["Pyro daemon running."]


def test_sockets_that_make_sense() -> None:
    assert str(Pyro5.socketutil.get_ip_address("localhost", version=4)) == "127.0.0.1"
    assert Pyro4.socketutil.getIpAddress("127.0.0.1") == "127.0.0.1"
    assert Pyro4.socketutil.getIpVersion("127.0.0.1") == 4
    assert Pyro4.socketutil.getInterfaceAddress("127.0.0.1") == "127.0.0.1"
    assert 1024 < Pyro5.socketutil.find_probably_unused_port() < 65536
