"""Pyro5's own layer for Pyro4: here that is Pyro4 itself."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module(f"{__name__.removesuffix('Pyro5.compatibility.Pyro4')}Pyro4")
