"""Proxies of objects that are found by other means than a name server."""

from __future__ import annotations

import pickle

import pytest

import broker
from broker.errors import NameNotFound, NamingError


class Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


def test_a_function_says_where_a_name_leads_each_time_that_the_proxy_connects() -> None:
    asked: list[broker.URI] = []
    places: dict[str, broker.URI] = {}

    def resolve(uri: broker.URI) -> broker.URI:
        asked.append(uri)
        if uri.object not in places:
            raise NameNotFound(f"{uri.object} is nowhere")
        return places[uri.object]

    proxy = broker.Proxy("BROKERNAME:one", resolve=resolve, local=False)
    with pytest.raises(NamingError, match="one is nowhere"):
        proxy.name()
    with broker.Daemon() as first:
        places["one"] = first.register(Named("first"))
        assert [proxy.name(), proxy.name()] == ["first", "first"]
        assert asked == [broker.URI("BROKERNAME:one")] * 2
    with broker.Daemon() as second:
        places["one"] = second.register(Named("second"))
        assert proxy.name() == "second"
        second.unregister(places["one"].object)
        places["one"] = second.register(Named("moved"))
        assert proxy.name() == "moved"
        assert proxy._broker.uri == broker.URI("BROKERNAME:one")
        proxy._broker.bind()
        assert proxy._broker.uri == places["one"]
        assert pickle.loads(pickle.dumps(proxy)).name() == "moved"


def test_what_a_function_says_may_be_text_and_may_be_a_name() -> None:
    with broker.Daemon() as daemon, broker.start_ns(port=0) as server:
        uri = daemon.register(Named("here"))
        with broker.NameServer(*server.daemon.address) as names:
            names.register("real", uri)
        alias = f"BROKERNAME:real@{server.daemon.location}"
        assert broker.Proxy("BROKERNAME:alias", resolve=lambda uri: alias).name() == "here"
        assert broker.Proxy("BROKER:other@nowhere.invalid:1", resolve=lambda _: str(uri)).name() == "here"
