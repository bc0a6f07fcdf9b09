"""Prints the oldest dependencies that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
optional = project["optional-dependencies"]
for requirement in [*project["dependencies"], *optional["numpy"], *optional["certs"], *optional["jwt"]]:
    print(re.sub(r"^([\w-]+)(?:\[[\w,-]+\])?>=([\d.]+)$", r"\1==\2", requirement))
