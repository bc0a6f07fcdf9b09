"""Prints the oldest dependencies that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["numpy"]]:
    print(re.sub(r"^([\w-]+)>=([\d.]+)$", r"\1==\2", requirement))
