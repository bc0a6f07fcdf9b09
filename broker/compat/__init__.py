"""Pyro programs, unchanged: what Pyro4 and Pyro5 call things, on this engine.

    python -m broker.compat my_server.py            # a program that says `import Pyro4` or `from Pyro5.api import …`
    from broker.compat import Pyro4, Pyro5          # or one changed line

`modules` says what is in the modules that programs import. What is here uses the public names of broker alone.
"""

from typing import Any

from broker.compat import modules

__all__ = ["Pyro4", "Pyro5", "modules"]

Pyro4: Any  # found by what `modules` puts in Python's way
Pyro5: Any
