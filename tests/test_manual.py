"""The code in the README and in the manual: what a reader pastes is run here, and what a page shows is what comes out.

A Python block of the manual says in a comment above it what it is: `<!-- run -->` (those of a page are one program;
`# -> text` at the end of a line is what its value looks like, `# raises text` how its exception begins),
`<!-- from FILE -->` (a part of that file), `<!-- file NAME -->` (is written to that file, for the shell blocks) or
`<!-- shown -->` (is compiled). Shell blocks (`sh`) of a page are one script, and the `text` block after one is its
output, in which `…` stands for anything.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = [
    "tutorial-threads.md", "calls.md", "callbacks.md", "operation.md", "names.md", "values.md", "errors.md",
    "inspection.md", "limits.md", "pyro.md", "reliability.md", "security.md", "typed-services.md",
]  # fmt: skip
PAGES = ["tutorial.md", *PROGRAMS]
WITH_WAREHOUSE = {"inspection.md", "typed-services.md"}
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)

# What tests get from the fixture: run(None, script, arguments…, environment={…}) starts a program.
Run = Callable[..., Any]


@dataclass
class Block:
    mark: str | None
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["mark"], found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in _BLOCK.finditer(text)
    ]


# ---- the README


def test_the_first_screen_of_the_readme_works_when_pasted(run_program: Run, tmp_path: Path) -> None:
    server_code, client_code = (block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    ports = set(re.findall(r"\b\d{4,5}\b", server_code + client_code))
    assert len(ports) == 1, "the server says where it listens and the client calls there"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    for name, code in (("server.py", server_code), ("client.py", client_code)):
        (tmp_path / name).write_text(code.replace(ports.copy().pop(), port), encoding="utf-8")
    server = run_program(None, str(tmp_path / "server.py"))
    server.line("Broker daemon running.")
    client = run_program(None, str(tmp_path / "client.py"))
    assert client.wait() == 0, client.errors
    shown = [line.rpartition("# ")[2] for line in client_code.splitlines() if line.startswith("print(")]
    assert [line.rstrip() for line in client.output] == shown
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0, server.errors


def test_the_readme_has_two_commands_for_a_fresh_machine() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^    (make \w+)", text, re.MULTILINE) == ["make demo", "make test"]
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:", targets, re.MULTILINE)
    assert re.search(r"^test:", targets, re.MULTILINE)


# ---- the manual


@pytest.fixture
def environment(run_program: Run) -> Iterator[dict[str, str]]:
    """Where a name server runs, and grpcurl and buf are."""
    name_server = run_program(None, "-m", "broker.naming", "-p", "0")
    port = name_server.line("URI = ").rpartition(":")[2]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    yield {"BROKER_NS_PORT": port, "PATH": path}
    name_server.send_signal(signal.SIGTERM)
    assert name_server.wait() == 0, name_server.errors


@pytest.fixture
def start_warehouse(run_program: Run, environment: dict[str, str]) -> Callable[[], None]:
    def start() -> None:
        script = str(ROOT / "examples" / "warehouse" / "phase3" / "warehouse.py")
        run_program(None, script, environment=environment).line("Broker daemon running.")

    return start


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_say_what_they_are(page: str) -> None:
    for block in blocks(ROOT / "docs" / page):
        if block.language != "python":
            continue
        where = f"{page}:{block.line}"
        assert block.mark is not None, f"{where}: no comment above it says what it is"
        compile(textwrap.dedent(block.text), where, "exec")
        if block.mark.startswith("from "):
            program = (ROOT / block.mark.removeprefix("from ")).read_text(encoding="utf-8")
            assert block.text in program, f"{where} is no part of {block.mark.removeprefix('from ')}"
        else:
            assert re.match("(run|shown|file .+)$", block.mark), f"{where}: {block.mark!r} means nothing"


@pytest.mark.parametrize("page", PROGRAMS)
def test_python_blocks_run(
    run_program: Run, environment: dict[str, str], start_warehouse: Callable[[], None], page: str, tmp_path: Path
) -> None:
    if page in WITH_WAREHOUSE:
        start_warehouse()
    program = tmp_path / "manual.py"
    program.write_text(checked_program(page), encoding="utf-8")
    ran = run_program(None, str(program), environment=environment)
    assert ran.wait(40) == 0, ran.errors


@pytest.mark.parametrize("page", ["inspection.md", "typed-services.md"])
def test_shell_blocks_run(environment: dict[str, str], start_warehouse: Callable[[], None], page: str) -> None:
    start_warehouse()
    run_shell_blocks(page, environment, ROOT)


def test_mutual_tls_and_a_policy_in_ten_minutes(tmp_path: Path) -> None:
    """The page starts the name server, too; a daemon and callers that know each other by certificates come of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {"BROKER_NS_PORT": port, "PATH": path, "PYTHONPATH": str(ROOT)}
    run_shell_blocks("security.md", environment, tmp_path)


def run_shell_blocks(page: str, environment: dict[str, str], directory: Path) -> None:
    script, shown = ["set -eu"], []
    found = blocks(ROOT / "docs" / page)
    for block in found:
        if block.mark is not None and block.mark.startswith("file "):
            (directory / block.mark.removeprefix("file ")).write_text(block.text, encoding="utf-8")
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.language == "sh":
            text = re.sub(r"localhost:9090\b", f"localhost:{environment['BROKER_NS_PORT']}", block.text)
            script += [text, "echo ====="]
            shown.append(after.text if after is not None and after.language == "text" else "")
    ran = subprocess.run(
        ["sh"],
        cwd=directory,
        input="\n".join(script),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    printed = ran.stdout.split("=====\n")
    assert ran.returncode == 0, ran.stdout
    assert len(printed) == len(shown) + 1
    for expected, output in zip(shown, printed, strict=False):
        assert re.fullmatch(pattern(expected), squeezed(output)), f"{expected}\nis shown, and this came:\n{output}"


def pattern(shown: str) -> str:
    return re.escape(squeezed(shown)).replace("…", ".*")


def squeezed(text: str) -> str:
    """Without white space, by which tools and their versions differ."""
    return re.sub(r"\s+", "", text)


# ---- programs out of blocks

_PRELUDE = """
import contextlib

@contextlib.contextmanager
def _raises(text, where):
    try:
        yield
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        assert found.startswith(text), f"{where}: raised {found!r}, and the page says {text!r}"
    else:
        raise AssertionError(f"{where}: raised nothing, and the page says {text!r}")

def _shows(value, text, where):
    assert repr(value) == text, f"{where}: is {value!r}, and the page says {text}"
"""


def checked_program(page: str) -> str:
    """The `run` blocks of a page as one program that checks what its comments say."""
    run = [block for block in blocks(ROOT / "docs" / page) if block.language == "python" and block.mark == "run"]
    return "\n".join([_PRELUDE, *(checked(block, page) for block in run)])


def checked(block: Block, page: str) -> str:
    lines = block.text.splitlines()
    code: list[str] = []
    for statement in ast.parse(block.text).body:
        first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", []))])
        assert statement.end_lineno is not None
        source = lines[first - 1 : statement.end_lineno]
        where = f"{page}:{block.line + statement.end_lineno - 1}"
        code += checked_statement(statement, source, where)
    return "\n".join(code)


def checked_statement(statement: ast.stmt, source: list[str], where: str) -> list[str]:
    comment = source[-1][statement.end_col_offset or 0 :].strip()
    if comment.startswith("# raises "):
        body = textwrap.indent("\n".join(source), "    ")
        return [f"with _raises({comment.removeprefix('# raises ')!r}, {where!r}):", body]
    if comment.startswith("# -> "):
        assert isinstance(statement, ast.Expr), f"{where}: only an expression has a value"
        return [f"_shows({ast.unparse(statement)}, {comment.removeprefix('# -> ')!r}, {where!r})"]
    return source
