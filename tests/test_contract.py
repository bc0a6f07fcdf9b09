"""The public names and their signatures, as programs from outside use them.

A change here breaks somebody's program.
"""

from __future__ import annotations

import inspect
import typing

import pytest

import broker

_PROXY = (
    "(uri, *, timeout=None, connect_timeout=10, wait=0, codec='json', metadata=None, retries=0, credentials=None, "
    "local=True, around=(), patience=None, greeting=None, resolve=None, proxy_class=None)"
)

# Signatures without annotations; None where only the name is promised. `ns` is what locate_ns returns.
CONTRACT: dict[str, str | None] = {
    # ---- serving
    "Daemon": (
        "(host=None, port=0, *, unix_socket=None, advertise=None, codecs=('json',), require_expose=False, "
        "max_workers=None, max_message_size=None, tracebacks=True, insecure=False, credentials=None, authorize=None, "
        "admit=None, around=(), proxy_class=None)"
    ),
    "Daemon.address": None,
    "Daemon.register": (
        "(obj_or_class, object_id=None, *, replace=False, max_concurrency=None, executor=None, members=None, "
        "weak=False)"
    ),
    "Daemon.unregister": "(obj_or_id)",
    "Daemon.uri_for": "(obj_or_id)",
    "Daemon.proxy_for": "(obj_or_id)",
    "Daemon.objects": None,
    "Daemon.stats": "()",
    "Daemon.publish": "(obj, name, *, tags=())",
    "Daemon.request_loop": "(until=None, *, executor=None)",
    "Daemon.start": "()",
    "Daemon.shutdown": "(grace=5.0)",
    "Daemon.__enter__": "()",
    "Daemon.__aenter__": "()",
    "LoopExecutor": "()",
    "LoopExecutor.run": "(timeout=None)",
    "EchoServer": "(verbose=False, on_shutdown=None)",
    "serve": "(objects, host=None, port=0, *, daemon=None, use_ns=True, tags=(), wait=0, block=True, verbose=True)",
    "expose": None,
    "oneway": None,
    "behavior": "(instance_mode='session', instance_creator=None, max_concurrency=None)",
    # ---- calling
    "Proxy": _PROXY,
    "proxy._broker": None,
    "proxy._broker.uri": None,
    "proxy._broker.description": None,
    "proxy._broker.timeout": None,
    "proxy._broker.bind": "()",
    "proxy._broker.ping": "()",
    "proxy._broker.close": "()",
    "proxy._broker.reconnect": "()",
    "proxy._broker.set": "(name, value)",
    "proxy._broker.on_reconnect": "(function)",
    "Batch": "(proxy, *, stop_on_error=True)",
    "AsyncProxy": _PROXY,
    "Promise": "(future=None)",
    "Promise.then": "(function, *args, **kwargs)",
    "Promise.on_error": "(function)",
    "Promise.done": "()",
    "Promise.wait": "(timeout=None)",
    "Promise.result": "(timeout=None)",
    "Promise.cancel": "()",
    "Promise.run": "(function, *args, **kwargs)",
    "Promise.set_result": "(value)",
    "Promise.set_exception": "(error)",
    "export": "(obj_or_function, *, max_concurrency=None, executor=None)",
    "connect": "(uri, interface, **options)",
    "connect_async": "(uri, interface, **options)",
    "submit": None,
    "send": None,
    "options": None,
    "close": None,
    # ---- who is at the other end
    "Credentials": ("(cert=None, key=None, ca=None, *, token=None, token_file=None, accept=(), server_name=None)"),
    "Policy": "(file)",
    "Tokens": "(known)",
    "JWTs": "(key_file, *, issuer, audience, identity='sub', algorithms=('RS256', 'ES256', 'EdDSA'))",
    "SameUser": "(file=None)",
    # ---- names
    "locate_ns": "(host=None, port=None, *, wait=0, credentials=None, broadcast=False)",
    "discover_ns": "(port=9091, *, addresses=('<broadcast>',), timeout=0.7)",
    "address_towards": "(other)",
    "Beacon": "(where, host='', port=9091)",
    "LocalNames": "(storage='memory')",
    "ns.register": "(name, obj_or_uri, *, replace=True, tags=(), ttl=None)",
    "ns.remove": "(name=None, *, prefix=None, regex=None)",
    "ns.lookup": "(name, *, with_tags=False)",
    "ns.set_tags": "(name, tags)",
    "ns.list": "(prefix=None, *, regex=None, tags_all=None, tags_any=None, with_tags=False)",
    "ns.count": "()",
    "ns.ping": "()",
    "resolve": "(uri, *, wait=0, credentials=None)",
    "start_ns": None,
    "start_ns_loop": None,
    # ---- the rest
    "register_type": "(cls=None, *, name=None, to_dict=None, from_dict=None)",
    "dumps": "(value, *, proxy_class=None)",
    "loads": "(data, *, proxy_class=None)",
    "current_context.client": None,
    "current_context.object_id": None,
    "current_context.member": None,
    "current_context.oneway": None,
    "current_context.metadata": None,
    "current_context.response_metadata": None,
    "current_context.correlation_id": None,
    "current_context.correlate": "(correlation_id=None)",
    "current_context.remaining": None,
    "current_context.cancelled": None,
    "current_context.wait_cancelled": "(timeout=None)",
    "current_context.session": None,
    "current_context.track": "(resource)",
    "current_context.on_cancel": "(function)",
    "current_context.on_close": "(function)",
    "current_context.copy": "()",
    "URI": "(uri)",
    "FieldNumber": "(number)",
    "Call": None,
    "Stats": None,
    "Record": None,
    "config.timeout": None,
    "errors.BrokerError.may_have_run": None,
    "errors.CommunicationError": None,
    "errors.CannotConnect": None,
    "errors.ConnectionClosedError": None,
    "errors.CallTimeout": None,
    "errors.ProtocolError": None,
    "errors.MessageTooLargeError": None,
    "errors.CodecError": None,
    "errors.DaemonError": None,
    "errors.ObjectNotFound": None,
    "errors.AccessDenied": None,
    "errors.Overloaded": None,
    "errors.NamingError": None,
    "errors.NameNotFound": None,
    "errors.NameTaken": None,
    "errors.RemoteError.type": None,
    "errors.excepthook": "(kind, error, tb)",
    "errors.get_remote_traceback": "(error)",
}


def owner_of(path: list[str]) -> object:
    """What the last part of the path is an attribute of."""
    found: object = broker
    for part in path[:-1]:
        if part == "ns":
            found = typing.get_type_hints(broker.locate_ns)["return"]
        elif part == "proxy":
            found = broker.Proxy("BROKERNAME:example.warehouse")
        else:
            found = getattr(found, part)
    return found


def exists(name: str) -> bool:
    path = name.split(".")
    if path[:-1] == []:
        return hasattr(broker, name)  # such names are loaded with their first use
    # Statically, because reading an item of the context outside a call, or of a proxy, does something.
    return inspect.getattr_static(owner_of(path), path[-1], exists) is not exists


def shape(name: str) -> str:
    """The signature without annotations, and without `self`."""
    path = name.split(".")
    owner = owner_of(path)
    static = inspect.getattr_static(owner, path[-1])
    signature = inspect.signature(getattr(owner, path[-1]))
    parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    if inspect.isclass(owner) and inspect.isfunction(static):
        parameters = parameters[1:]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize("name", list(CONTRACT))
def test_a_promised_name_has_the_promised_signature(name: str) -> None:
    assert exists(name)
    promised = CONTRACT[name]
    if promised is not None:
        assert shape(name) == promised


def test_all_lists_the_promised_names() -> None:
    names = {name.split(".")[0] for name in CONTRACT} - {"ns", "proxy"}
    assert names <= set(broker.__all__)
    assert all(exists(name) for name in broker.__all__)
    assert len(broker.__all__) == len(set(broker.__all__))


def test_the_version_is_that_of_the_distribution() -> None:
    import importlib.metadata

    assert broker.__version__ == importlib.metadata.version("objectbroker")
