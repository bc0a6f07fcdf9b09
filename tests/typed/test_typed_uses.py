"""What type checkers find in typed uses: what is wrong, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".mypy_cache" / "typed_uses"
USES = Path(__file__).parent / "typed_uses.py"


def wrong_lines() -> set[int]:
    lines = USES.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def check(*command: str, cwd: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.timeout(120)
def test_mypy_finds_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = True\nmypy_path = {ROOT}\n[mypy-broker._pb.*]\nignore_errors = True\n")
    output = check(
        "mypy", "--config-file", str(config), "--cache-dir", str(CACHE), "--output", "json", str(USES), cwd=tmp_path
    )
    found = [json.loads(line) for line in output.splitlines()]
    errors = {entry["line"]: entry["message"] for entry in found if entry["severity"] == "error"}
    assert {entry["file"] for entry in found} == {str(USES)}
    assert errors.keys() == wrong_lines(), errors


@pytest.mark.timeout(120)
def test_pyright_finds_what_is_wrong(tmp_path: Path) -> None:
    settings = {"include": [str(USES)], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    output = check("basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config), cwd=tmp_path)
    found = json.loads(output)["generalDiagnostics"]
    errors = {entry["range"]["start"]["line"] + 1: entry["message"] for entry in found if entry["severity"] == "error"}
    assert errors.keys() == wrong_lines(), errors
