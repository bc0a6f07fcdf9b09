"""Pyro programs, unchanged: what Pyro4 and Pyro5 call things, on this engine.

    python -m broker.compat my_server.py            # a program that says `import Pyro4` or `from Pyro5.api import …`
    from broker.compat import Pyro4, Pyro5          # or one changed line

The folder `modules` holds the packages Pyro4 and Pyro5 as programs import them; they say where each name comes from.
What is here uses the public names of broker alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Pyro4", "Pyro5", "known_as"]


def __getattr__(name: str) -> Any:
    if name in ("Pyro4", "Pyro5"):
        if name == "Pyro5":
            import_module("broker.compat.modules.Pyro5.api")  # and with it the other modules
        return import_module(f"broker.compat.modules.{name}")
    raise AttributeError(f"module 'broker.compat' has no attribute {name!r}")


def known_as(home: str, *classes: type) -> None:
    """Gives classes the module in which programs know them: it shows in tracebacks and reprs, and in pickles.

    Of Pyro4 and Pyro5 the one that is imported first names them.
    """
    for cls in classes:
        if cls.__module__.startswith("broker.compat.") and not home.startswith("broker."):
            cls.__module__ = home
