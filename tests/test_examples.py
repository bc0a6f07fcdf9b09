"""Every example, run as it stands: each program a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
FEATURES = [
    "async",
    "attributes",
    "autoproxy",
    "batch",
    "callback",
    "cancellation",
    "exceptions",
    "futures",
    "instancemodes",
    "instrument",
    "oneway",
    "pickle-optin",
    "streaming",
    "telemetry",
    "webapp",
]

# What tests get from the fixture: run(None, script, arguments…, environment={…}) starts a program.
Run = Callable[..., Any]


def start(run_program: Run, script: str, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    return run_program(None, str(EXAMPLES / script), *arguments, environment=environment)


def serve(run_program: Run, script: str, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """Starts a server and returns when it serves."""
    server = start(run_program, script, *arguments, environment=environment)
    server.line("Broker daemon running.")
    return server


def uris(server: Any) -> list[str]:
    return [line.split(" = ")[1].strip() for line in server.output if line.startswith("    uri = ")]


def output_of(program: Any) -> str:
    """What a program printed that ended by itself, and well."""
    assert program.wait() == 0, program.errors
    assert program.errors == ""
    return "".join(program.output)


def end(program: Any) -> str:
    """Asks a program to end; returns what it printed."""
    program.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.errors
    return "".join(program.output)


@pytest.fixture
def found_at(run_program: Run) -> Iterator[dict[str, str]]:
    """The environment in which programs find a name server that runs."""
    name_server = run_program(None, "-m", "broker.naming", "-p", "0")
    port = name_server.line("URI = ").rpartition(":")[2]
    yield {"BROKER_NS_PORT": port}
    assert "NS shut down." in end(name_server)


@contextmanager
def port_taken() -> Iterator[int]:
    """A port on which something that is no name server listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# ---- the warehouse

VISITS = [
    "This is Janet.",
    "    The warehouse has: chair, bicycle, couch, ladder, radio.",
    "    Janet brought a lamp and leaves with the couch.",
    "This is Henry.",
    "    The warehouse has: chair, bicycle, ladder, radio, lamp.",
    "    There is no couch for Henry.",
    "In the end the warehouse has: chair, bicycle, ladder, radio, lamp, teapot.",
]
IN_THE_WAREHOUSE = ["Janet stored the lamp.", "Janet took the couch.", "Henry stored the teapot."]


def test_warehouse_phase1(run_program: Run) -> None:
    lines = output_of(start(run_program, "warehouse/phase1/visit.py")).splitlines()
    assert [line for line in lines if line not in IN_THE_WAREHOUSE] == VISITS
    assert [line for line in lines if line in IN_THE_WAREHOUSE] == IN_THE_WAREHOUSE


def test_warehouse_phase2(run_program: Run) -> None:
    warehouse = serve(run_program, "warehouse/phase2/warehouse.py")
    visit = start(run_program, "warehouse/phase2/visit.py", *uris(warehouse))
    assert output_of(visit).splitlines() == VISITS
    assert end(warehouse).splitlines()[3:6] == IN_THE_WAREHOUSE


def test_warehouse_phase3(run_program: Run, found_at: dict[str, str]) -> None:
    warehouse = serve(run_program, "warehouse/phase3/warehouse.py", environment=found_at)
    visit = start(run_program, "warehouse/phase3/visit.py", environment=found_at)
    assert output_of(visit).splitlines() == VISITS
    again = start(run_program, "warehouse/phase3/visit.py", environment=found_at)
    assert "There is no couch for Janet." in output_of(again)
    assert end(warehouse).splitlines()[4:7] == IN_THE_WAREHOUSE
    names = run_program(None, "-m", "broker.nsc", "list", environment=found_at)
    assert "example.warehouse" not in output_of(names)


# ---- the stock market


def test_stockquotes_phase1(run_program: Run) -> None:
    lines = output_of(start(run_program, "stockquotes/phase1/stockquotes.py", "12")).splitlines()
    assert len(lines) == 12
    assert {tuple(line.split()[:2]) for line in lines} <= {("Amsterdam", "TULIP"), ("Kyoto", "MAPLE")}


def test_stockquotes_phase2(run_program: Run) -> None:
    market = serve(run_program, "stockquotes/phase2/stockmarket.py")
    killed = start(run_program, "stockquotes/phase2/viewer.py", *uris(market), "TULIP")
    viewer = start(run_program, "stockquotes/phase2/viewer.py", *uris(market), "KOTO", "TULIP")
    for program in killed, viewer:
        program.line("Amsterdam  TULIP")
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    viewer.wait_for_lines(len(viewer.output) + 3)
    assert {line.split()[1] for line in end(viewer).splitlines()} == {"KOTO", "TULIP"}
    end(market)


def test_stockquotes_phase3(run_program: Run, found_at: dict[str, str]) -> None:
    viewer = start(run_program, "stockquotes/phase3/viewer.py", "KOTO", "CANAL", environment=found_at)  # it waits
    aggregator = serve(run_program, "stockquotes/phase3/aggregator.py", environment=found_at)
    markets = [
        start(run_program, "stockquotes/phase3/market.py", environment=found_at),
        start(run_program, "stockquotes/phase3/market.py", "Kyoto", "MAPLE=945", "KOTO=64.75", environment=found_at),
    ]
    viewer.line("Amsterdam  CANAL")
    viewer.line("Kyoto      KOTO")
    end(aggregator)
    markets[0].line("Amsterdam trades on without the aggregator")
    aggregator = serve(run_program, "stockquotes/phase3/aggregator.py", environment=found_at)
    second = start(run_program, "stockquotes/phase3/viewer.py", environment=found_at)
    second.line("Amsterdam  TULIP")
    second.line("Kyoto      MAPLE")
    for program in (second, viewer, *markets, aggregator):
        end(program)


def test_stockquotes_as_on_several_machines(run_program: Run) -> None:
    """Everything listens on all addresses, and finds the rest by the address of this machine."""
    public = {"BROKER_HOST": "0.0.0.0", "BROKER_INSECURE": "1"}
    name_server = run_program(None, "-m", "broker.naming", "-n", "0.0.0.0", "-p", "0", "--insecure")
    host, _, port = name_server.line("URI = ").partition("@")[2].rpartition(":")
    assert host not in ("0.0.0.0", "127.0.1.1")
    environment = {**public, "BROKER_NS_HOST": host, "BROKER_NS_PORT": port}
    aggregator = serve(run_program, "stockquotes/phase3/aggregator.py", environment=environment)
    assert f"@{host}:" in uris(aggregator)[0]
    market = start(run_program, "stockquotes/phase3/market.py", environment=environment)
    viewer = start(run_program, "stockquotes/phase3/viewer.py", environment=environment)
    viewer.line("Amsterdam  TULIP")
    for program in (viewer, market, aggregator, name_server):
        end(program)


@pytest.mark.timeout(120)
def test_the_stock_market_runs_on_when_a_viewer_is_killed(run_program: Run) -> None:
    printed = run_program(None, str(EXAMPLES / "stockquotes" / "minute.py"), "10")
    assert printed.wait(100) == 0, printed.output
    assert printed.output[0] == "8 processes and a name server run for 10 seconds.\n"
    assert printed.output[1].startswith("viewer 3 was killed")
    assert printed.output[-1] == "No process was lost, none has grown, and all ended well.\n"


# ---- one feature each

EXPECTED: dict[str, list[str]] = {
    "async": [
        "served:\n    a pot of Assam\n    a pot of Sencha\n    a pot of Oolong\n",
        "all in the time of two: True",
        "the menu: Assam, Sencha, Oolong",
        "a cup costs 4",
        "no time for Pu-erh\npoured away: True\n",
        "5000 calls at once: True with a thread for each: False",
        "for a friend: a pot of Sencha",
    ],
    "futures": [
        "the brightest: Sirius with -1.46",
        "six looks took less than two: True",
        "Vega: 0.03",
        "Nemesis: there is no Nemesis tonight",
        "found: a comet in the south",
        "cancelled: [True, True, True]",
        "broken off at the observatory: 3",
    ],
    "webapp": [
        "the page: <h1>The shop</h1><ul><li>3 x kettle</li><li>12 x cup</li></ul>",
        "a kettle is sold, 2 left",
        "a cup is sold, 2 left",
        "no sale: there is no teapot left",
        "the page: <h1>The shop</h1><ul><li>2 x kettle</li><li>2 x cup</li></ul>",
        "visits: 11",
    ],
    "attributes": [
        "target: 20.0",
        "target, once set: 22.5",
        "radiators: 3",
        "remote members: measured, target",
        "the setter refused: 80 is too hot for this room",
        "read-only: 'example.thermostat'",
        "Attributes of an instance are never remote: make it a property.",
    ],
    "autoproxy": [
        "borrowed a Proxy for 'Emma'",
        "the same book: True with the notes ['badly done, indeed']",
        "on the shelf: Persuasion, a Proxy with 1 note",
        "thank you for 'Emma', with what was written into it: badly done, indeed",
    ],
    "cancellation": [
        "done: a crystal of salt",
        "timeout: 'grow' of 'example.laboratory' at ",
        "in the diary: quartz: thrown away, nobody waits for it",
        "cancelled: True",
        "in the diary: sand: stopped before the end",
        "in the diary: tea: poured away",
        "in the diary of the annex: ruby: thrown away, nobody waits for it",
        "in the diary: jade: thrown away, nobody waits for it (the helper was killed)",
    ],
    "exceptions": [
        "ValueError: the amount is -5: it must be above 0",
        "InsufficientFunds: 30 short and .missing is 30",
        "RemoteError: 'nobody' of the type server.UnknownAccount and a KeyError: True",
        "TypeError: withdraw() missing 1 required positional argument: 'amount'",
        " +--- This exception occurred remotely (broker) - Remote traceback:",
        "in withdraw",
    ],
    "instrument": [
        "measured 20 times, from 20.5 to 30.0 degrees",
        "each reading is its own: True",
        "counted at the instrument: 20",
        "the driver was used by driver_0",
        "not on that thread: 3 … 1 on broker-loop",
    ],
    "instancemodes": [
        "    Henry: session basket 2 holds pear",
        "    Janet: session basket 1 holds apple, plum",
        "    Janet, in a new session: session basket 3 holds quince",
        "    Janet, in a new session: single basket 1 holds apple, pear, plum, quince",
        "    Janet: percall basket 3 holds plum",
        "    Henry: a basket from the creator 2 holds pear",
    ],
    "batch": [
        "totals: 420 630\nreceipt: 1 x bread, 6 x egg\nchange: 370\n",
        "so far: 500\nthen: air has no price\nstill to be paid for: 1 x tea\n",
        "error: 1 cents do not pay for 500\nerror: 'example.till' at localhost:",
        "result: 0\n1000 calls one by one: ",
        "grains on the bill: 2000\npaid: True\n",
    ],
    "oneway": [
        "submitted page 1: None",
        "printed in order: ['page 1', 'page 2', 'page 3']",
        "the caller of an empty page noticed nothing",
        "in the end: 3 pages",
    ],
    "callback": [
        "cheesecake: 50 % (told on the main thread)",
        "baked: cheesecake",
        "the alarm rang: True",
        "the choice is soup or pie",
        "Janet gets one pie, no salt",
        "it came back through the kitchen: I ordered no fruitcake",
    ],
    "telemetry": [
        "20 loaves of 10 kg of flour",
        "no bread: 1000 kg are too much for this mill",
        "INTERNAL breakfast is ",
    ],
    "streaming": [
        "sighted: ship 3\ncounting while we listen: True\ncounting afterwards: 0\nahead of a slow reader: True\n",
        "high tide at hour 6 with 2.5 m",
        "    on the hook: tea\n",
        "crate 2: silk, 65 kg on the quay\n",
        "stopped: a bell is too heavy for the crane\n",
        " ships a second",
    ],
    "pickle-optin": [
        "the default codec: 55",
        "json refuses: args[0]: an instance of functools.partial cannot travel",
        "pickle: [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]",
    ],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_feature(run_program: Run, feature: str) -> None:
    server = serve(run_program, f"{feature}/server.py")
    printed = output_of(start(run_program, f"{feature}/client.py", *uris(server)))
    for text in EXPECTED[feature]:
        assert text in printed
    end(server)
    if feature == "oneway":
        assert "ValueError: an empty page" in server.errors
    if feature == "telemetry":
        check_trace(printed.splitlines() + server.output)


def check_trace(lines: list[str]) -> None:
    """What both programs printed is one trace, and each span but the first is below another."""
    found = [re.match(r"trace (\w{32}): (\w+) (\S+) is (\w{16}) (?:below (\w{16})|at the top)", line) for line in lines]
    spans = {span[4]: span for span in found if span is not None}
    assert len(spans) == 9
    assert len({span[1] for span in spans.values()}) == 1
    above = {f"{span[2]} {span[3]}": f"{spans[span[5]][2]} {spans[span[5]][3]}" for span in spans.values() if span[5]}
    assert above == {
        "CLIENT example.bakery.bake": "INTERNAL breakfast",
        "SERVER example.bakery.bake": "CLIENT example.bakery.bake",
        "CLIENT example.mill.grind": "SERVER example.bakery.bake",
        "SERVER example.mill.grind": "CLIENT example.mill.grind",
    }


def test_worker_pool(run_program: Run) -> None:
    dispatcher = serve(run_program, "worker-pool/dispatcher.py")
    killed = start(run_program, "worker-pool/worker.py", *uris(dispatcher), "one")
    client = start(run_program, "worker-pool/factorize.py", *uris(dispatcher))
    killed.wait_for_lines(3)
    killed.send_signal(signal.SIGKILL)  # what it is at is done by the other
    worker = start(run_program, "worker-pool/worker.py", *uris(dispatcher), "two")
    printed = output_of(client)
    assert "40 numbers factorized, and every product is right\n" in printed
    assert "one did some of them\ntwo did some of them\n" in printed
    end(dispatcher)
    worker.send_signal(signal.SIGINT)
    assert output_of(worker).endswith("The dispatcher has gone home.\n")


def test_mandelbrot(run_program: Run, tmp_path: Path) -> None:
    workers = [serve(run_program, "mandelbrot/worker.py") for _ in range(2)]
    file = tmp_path / "picture.png"
    found = [uri for worker in workers for uri in uris(worker)]
    printed = output_of(start(run_program, "mandelbrot/picture.py", str(file), "64", *found))
    assert f"[{'#' * 40}] 48 of 48 rows\n" in printed
    assert [line for line in printed.splitlines() if line.startswith("24 rows from localhost:")]
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x30")
    size = int.from_bytes(data[33:37], "big")
    pixels = zlib.decompress(data[41 : 41 + size])
    assert len(pixels) == 48 * 65
    assert pixels[24 * 65 + 1 + 40] == 0, "a point of the set is black"
    for worker in workers:
        end(worker)


def test_chat(run_program: Run) -> None:
    server = serve(run_program, "chat/server.py")
    janet = start(run_program, "chat/client.py", *uris(server), "Janet", "Hello Henry", "Bye")
    janet.line("in the room: Janet")
    henry = start(run_program, "chat/client.py", *uris(server), "Henry", "Hello Janet")
    seen = set(output_of(henry).splitlines())
    assert seen >= {"<Janet> Hello Henry", "in the room: Henry, Janet"}
    assert seen <= {"<Janet> Hello Henry", "in the room: Henry, Janet", "<Janet> Bye", "<Janet> left"}
    assert output_of(janet).splitlines()[1:3] == ["<Henry> joined", "<Henry> Hello Janet"]
    end(server)


def test_chat_with_a_member_that_is_killed(run_program: Run) -> None:
    server = serve(run_program, "chat/server.py")
    talk = [f"text {number}" for number in range(5_000)]
    janet = start(run_program, "chat/client.py", *uris(server), "Janet", *talk)
    janet.line("in the room: Janet")
    spy = start(run_program, "chat/client.py", *uris(server), "Spy", *talk)
    janet.line("<Spy> text 3")
    spy.send_signal(signal.SIGKILL)
    janet.line("<Spy> left")
    end(server)


def test_tags(run_program: Run, found_at: dict[str, str]) -> None:
    printers = {"cellar": ["A4"], "attic": ["A4", "colour", "photo"], "hall": ["A4", "A3", "colour"]}
    servers = [
        serve(run_program, "tags/server.py", name, *tags, environment=found_at) for name, tags in printers.items()
    ]
    printed = output_of(start(run_program, "tags/client.py", environment=found_at))
    assert "example.printer.hall: A3, A4, colour\n" in printed
    assert "colour: example.printer.attic, example.printer.hall\n" in printed
    assert "colour and A3: example.printer.hall\n" in printed
    assert "photo or A3: example.printer.attic, example.printer.hall\n" in printed
    assert "the poster is in the tray of hall\n" in printed
    assert re.search(r"the letter is in the tray of (cellar|attic|hall)\n", printed)
    assert "nobody: " in printed
    for server in servers:
        end(server)


def test_grpcurl(run_program: Run, tool_path: str) -> None:
    server = serve(run_program, "grpcurl/server.py")
    at = uris(server)[0].partition("@")[2]
    script = EXAMPLES / "grpcurl" / "calls.sh"
    calls = subprocess.run(
        ["sh", str(script), at],
        env={**os.environ, "PATH": tool_path},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    for text in (
        "broker.v1.ObjectBroker",
        '"SERVING"',
        '"result": 10',
        '"bread, tea"',
        '"$type": "date"',
        '"KeyError"',
    ):
        assert text in calls.stdout
    assert "has no remote member 'burn'" in calls.stderr
    end(server)


def run_schema(*arguments: str) -> tuple[int, str]:
    """What `python -m broker.schema` ended with and printed, and nothing on stderr."""
    command = [sys.executable, "-m", "broker.schema", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def test_schema_evolution(run_program: Run, tool_path: str) -> None:
    folder = EXAMPLES / "schema-evolution"
    old = str(folder / "desk.proto")
    shown = re.findall(
        r"^    ((?:find|place) ?.*: .*)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    first, second, third = (serve(run_program, f"schema-evolution/desk_{version}.py") for version in (1, 2, 3))
    assert run_schema(*uris(first)) == (0, Path(old).read_text(encoding="utf-8"))
    assert run_schema(*uris(second), "--check", old) == (0, "")
    assert run_schema(*uris(third), "--check", old) == (1, "".join(f"{line}\n" for line in shown))
    for server in (first, second):
        at = uris(server)[0].partition("@")[2]
        calls = subprocess.run(
            ["sh", str(folder / "calls.sh"), at],
            env={**os.environ, "PATH": tool_path},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
        assert calls.stdout.count('"item": "couch"') == 3
    end(first), end(second), end(third)


def test_typed_service(run_program: Run, tool_path: str) -> None:
    server = serve(run_program, "typed-service/desk.py")
    at = uris(server)[0].partition("@")[2]
    folder = EXAMPLES / "typed-service"
    calls = subprocess.run(
        ["sh", str(folder / "calls.sh"), at],
        env={**os.environ, "PATH": tool_path},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    for text in (
        "rpc place",
        "repeated .example.orders_types.Item items = 3;",
        '"SHIPPED"',
        '"lamp": "3"',
        '"result": "0"',
    ):
        assert text in calls.stdout
    assert "Code: FailedPrecondition" in calls.stderr
    node = subprocess.run(
        ["node", str(folder / "customer.js"), at],
        env={**os.environ, "PATH": tool_path},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert node.stdout.splitlines() == [
        "order 2 of Janet",
        "  it is PLACED",
        "  it is PACKED",
        "  it is SHIPPED",
        "FAILED_PRECONDITION: 1 × couch ordered, 0 here",
        "DEADLINE_EXCEEDED",
    ]
    end(server)


# ---- the demonstration


def test_the_demonstration_runs_where_the_usual_port_is_taken(run_program: Run) -> None:
    with port_taken() as port:
        demonstration = start(run_program, "demo.py", environment={"BROKER_NS_PORT": str(port)})
        printed = output_of(demonstration)
    assert "  warehouse | Janet took the couch.\n" in printed
    assert "      visit |     Janet brought a lamp and leaves with the couch.\n" in printed
    before, after = printed.split("The warehouse closes")
    assert "example.warehouse -->" in before
    assert "example.warehouse -->" not in after
    assert "\033" not in printed


def test_the_demonstration_cleans_up_on_ctrl_c(run_program: Run) -> None:
    demonstration = start(run_program, "demo.py")
    port = demonstration.line("name server | URI = ").rpartition(":")[2]
    demonstration.line("  warehouse | Broker daemon running.")
    demonstration.send_signal(signal.SIGINT)
    assert demonstration.wait() == 130
    assert demonstration.errors == ""
    assert "Interrupted; everything that was started has ended.\n" in demonstration.output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))


def test_every_example_is_run() -> None:
    """A folder that is added has to be added above."""
    folders = {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert folders == {
        "warehouse",
        "stockquotes",
        "tags",
        "grpcurl",
        "chat",
        "mandelbrot",
        "worker-pool",
        "schema-evolution",
        "typed-service",
        *FEATURES,
    }
    programs = {path.parent for path in EXAMPLES.rglob("*.py")} - {EXAMPLES, EXAMPLES / "stockquotes"}
    assert all((folder / "README.md").is_file() for folder in programs)


@pytest.fixture
def tool_path() -> str:
    """A search path on which grpcurl is: beside this Python, where the wheel puts it, or installed."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    assert shutil.which("grpcurl", path=path), (
        "install grpcurl: make setup does on Linux; elsewhere see docs/inspection.md"
    )
    return path
