"""Remote Python objects over gRPC.

    broker.serve({Warehouse(): "example.warehouse"})                         # a server
    broker.Proxy("BROKERNAME:example.warehouse").take("Janet", "couch")      # a client

The manual is in docs/; every public name is here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from broker import errors
from broker._version import __version__
from broker.config import config

if TYPE_CHECKING:
    from broker.around import Call
    from broker.asynchronous import AsyncProxy
    from broker.batch import Batch
    from broker.codecs import Record, register_type
    from broker.context import current_context
    from broker.daemon import Daemon
    from broker.dispatch import Stats
    from broker.echo import EchoServer
    from broker.exports import export
    from broker.exposure import behavior, expose, oneway
    from broker.hints import FieldNumber
    from broker.loop_executor import LoopExecutor
    from broker.promise import Promise
    from broker.proxy import Proxy
    from broker.registry.client import NameServer
    from broker.registry.discovery import Beacon, address_towards, discover_ns
    from broker.registry.local import LocalNames
    from broker.registry.locate import locate_ns, resolve
    from broker.registry.server import start_ns, start_ns_loop
    from broker.security import Credentials, JWTs, Policy, SameUser, Tokens
    from broker.serving import serve
    from broker.typed import close, connect, connect_async, options, send, submit
    from broker.uri import URI
    from broker.values import dumps, loads

__all__ = [
    "URI",
    "AsyncProxy",
    "Batch",
    "Beacon",
    "Call",
    "Credentials",
    "Daemon",
    "EchoServer",
    "FieldNumber",
    "JWTs",
    "LocalNames",
    "LoopExecutor",
    "NameServer",
    "Policy",
    "Promise",
    "Proxy",
    "Record",
    "SameUser",
    "Stats",
    "Tokens",
    "__version__",
    "address_towards",
    "behavior",
    "close",
    "config",
    "connect",
    "connect_async",
    "current_context",
    "discover_ns",
    "dumps",
    "errors",
    "export",
    "expose",
    "loads",
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

# Where the names are that are loaded with their first use: a program that makes a proxy needs no server, and one that
# imports broker may need neither. (`broker.config` is the object, not the module of that name: it is here already.)
_HOMES = {
    "Call": "broker.around",
    "AsyncProxy": "broker.asynchronous",
    "Batch": "broker.batch",
    "Record": "broker.codecs",
    "register_type": "broker.codecs",
    "current_context": "broker.context",
    "Daemon": "broker.daemon",
    "Stats": "broker.dispatch",
    "EchoServer": "broker.echo",
    "export": "broker.exports",
    "FieldNumber": "broker.hints",
    "behavior": "broker.exposure",
    "expose": "broker.exposure",
    "oneway": "broker.exposure",
    "LoopExecutor": "broker.loop_executor",
    "Promise": "broker.promise",
    "Proxy": "broker.proxy",
    "NameServer": "broker.registry.client",
    "Beacon": "broker.registry.discovery",
    "address_towards": "broker.registry.discovery",
    "discover_ns": "broker.registry.discovery",
    "LocalNames": "broker.registry.local",
    "locate_ns": "broker.registry.locate",
    "resolve": "broker.registry.locate",
    "start_ns": "broker.registry.server",
    "start_ns_loop": "broker.registry.server",
    "Credentials": "broker.security",
    "JWTs": "broker.security",
    "Policy": "broker.security",
    "SameUser": "broker.security",
    "Tokens": "broker.security",
    "serve": "broker.serving",
    "close": "broker.typed",
    "connect": "broker.typed",
    "connect_async": "broker.typed",
    "options": "broker.typed",
    "send": "broker.typed",
    "submit": "broker.typed",
    "URI": "broker.uri",
    "dumps": "broker.values",
    "loads": "broker.values",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'broker' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
