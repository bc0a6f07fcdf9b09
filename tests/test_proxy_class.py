"""`proxy_class`: of which class the proxies are that arrive, in results and as arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import broker


class OurProxy(broker.Proxy):
    pass


class Room:
    def name(self) -> str:
        return "kitchen"


class House:
    def __init__(self) -> None:
        self._room = Room()

    def room(self) -> Room:
        return self._room

    def class_of(self, guest: Any) -> str:
        return type(guest).__name__


@pytest.mark.usefixtures("either_way")
def test_what_arrives_in_results_is_of_the_class_that_the_proxy_was_given() -> None:
    house = House()
    with broker.Daemon() as daemon:
        daemon.register(house._room)
        uri = daemon.register(house)
        for proxy in (broker.Proxy(uri, proxy_class=OurProxy), broker.options(broker.Proxy(uri, proxy_class=OurProxy))):
            room = proxy.room()
            assert type(room) is OurProxy
            assert room.name() == "kitchen"
        assert type(broker.Proxy(uri).room()) is broker.Proxy


@pytest.mark.usefixtures("either_way")
def test_what_methods_get_is_of_the_class_that_the_daemon_was_given() -> None:
    with broker.Daemon(proxy_class=OurProxy) as daemon, broker.Daemon() as guests:
        house = broker.Proxy(daemon.register(House()))
        guest = guests.proxy_for(str(guests.register(Room(), "guest").object))
        assert house.class_of(guest) == "OurProxy"
        plain = broker.Proxy(guests.register(House()))
        assert plain.class_of(guest) == "Proxy"


def test_exports_arrive_in_it_too() -> None:
    with broker.Daemon(proxy_class=OurProxy) as daemon:
        house = broker.Proxy(daemon.register(House()))
        assert house.class_of(broker.export(Room())) == "OurProxy"


def test_asynchronous_proxies_have_it() -> None:
    house = House()

    async def ask(uri: broker.URI) -> Any:
        async with broker.AsyncProxy(uri, proxy_class=OurProxy) as proxy:
            return await proxy.room()

    with broker.Daemon() as daemon:
        daemon.register(house._room)
        assert type(asyncio.run(ask(daemon.register(house)))) is OurProxy
