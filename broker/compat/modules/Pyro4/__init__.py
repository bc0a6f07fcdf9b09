"""Pyro4 as programs import it."""

from broker.compat.configuration import config
from broker.compat.context import current_context
from broker.compat.daemon import Daemon
from broker.compat.exposure import behavior, callback, expose, oneway
from broker.compat.futures import BatchProxy, Future, asyncproxy, batch
from broker.compat.naming import locate_ns as locateNS
from broker.compat.naming import resolve
from broker.compat.proxy import Proxy
from broker.compat.uri import URI

from . import constants, core, errors, futures, naming, socketutil, util

__version__ = constants.VERSION
