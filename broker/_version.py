"""The version, kept here alone: pyproject.toml and `broker.__version__` read it."""

__version__ = "0.1.0"
