"""Remote Python objects over gRPC.

    broker.serve({Warehouse(): "example.warehouse"})                         # a server
    broker.Proxy("BROKERNAME:example.warehouse").take("Janet", "couch")      # a client

The manual is in docs/; every public name is here.
"""

from broker import errors
from broker._version import __version__
from broker.around import Call
from broker.asynchronous import AsyncProxy
from broker.batch import Batch
from broker.codecs import Record, register_type
from broker.config import config
from broker.context import current_context
from broker.daemon import Daemon
from broker.dispatch import Stats
from broker.exports import export
from broker.exposure import behavior, expose, oneway
from broker.proxy import Proxy
from broker.registry.client import NameServer
from broker.registry.locate import locate_ns, resolve
from broker.registry.server import start_ns, start_ns_loop
from broker.serving import serve
from broker.typed import close, connect, connect_async, options, send, submit
from broker.uri import URI

__all__ = [
    "URI",
    "AsyncProxy",
    "Batch",
    "Call",
    "Daemon",
    "NameServer",
    "Proxy",
    "Record",
    "Stats",
    "__version__",
    "behavior",
    "close",
    "config",
    "connect",
    "connect_async",
    "current_context",
    "errors",
    "export",
    "expose",
    "locate_ns",
    "oneway",
    "options",
    "register_type",
    "resolve",
    "send",
    "serve",
    "start_ns",
    "start_ns_loop",
    "submit",
]
