"""Pyro5 as programs import it."""

from broker.compat.configuration import PYRO_VERSION as __version__
from broker.compat.configuration import config
