"""`proxy_class`: of which class the proxies are that arrive, in results and as arguments."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import enum
from typing import Any

import pytest

import broker


class OurProxy(broker.Proxy):
    pass


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class Degrees(broker.Proxy):
    @staticmethod
    def _travels_as(value: Any, codec: str) -> Any:
        if isinstance(value, Celsius):
            return ("degrees", value.degrees, codec) if value.degrees > -273 else 1 / 0
        return value


class Room:
    def name(self) -> str:
        return "kitchen"


class House:
    def __init__(self) -> None:
        self._room = Room()

    def room(self) -> Room:
        return self._room

    def warmth(self) -> Celsius:
        return Celsius(21.5)

    def same(self, value: Any) -> Any:
        return value

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


def test_what_a_proxy_keeps_of_its_own_is_kept_by_its_copies() -> None:
    class Labelled(broker.Proxy):
        def __init__(self, uri: str | broker.URI, **options: Any) -> None:
            super().__init__(uri, **options)
            object.__setattr__(self, "label", options.get("timeout"))

    proxy = Labelled("BROKER:house@localhost:1", timeout=3)
    for twin in (broker.options(proxy, timeout=4), copy.copy(proxy)):
        assert type(twin) is Labelled
        assert vars(twin) == {"label": 3}


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


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_it_says_what_travels_in_place_of_values(codec: str) -> None:
    with broker.Daemon(proxy_class=Degrees, codecs=["json", "pickle"]) as daemon, broker.Daemon() as plain:
        house = broker.Proxy(daemon.register(House()), proxy_class=Degrees, codec=codec)
        assert house.same([Celsius(3.0)]) == [("degrees", 3.0, codec)]
        assert house.warmth() == ("degrees", 21.5, codec)
        with pytest.raises(broker.errors.CodecError, match=r"_travels_as of the proxy_class raised ZeroDivisionError"):
            house.same(Celsius(-300))
        with pytest.raises(broker.errors.CodecError, match="cannot travel"):
            broker.Proxy(plain.register(House())).same(Celsius(3.0))


class ByValue(broker.Proxy):
    @staticmethod
    def _travels_as(value: Any, codec: str) -> Any:
        return {"room": value.name()} if isinstance(value, Room) else value


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_it_says_so_of_objects_that_are_served_too(codec: str) -> None:
    with broker.Daemon(proxy_class=ByValue, codecs=["json", "pickle"]) as daemon, broker.Daemon() as plain:
        house = House()
        daemon.register(house._room)
        assert broker.Proxy(daemon.register(house), codec=codec).room() == {"room": "kitchen"}
        assert broker.Proxy(plain.register(house)).room().name() == "kitchen"


class Shape(enum.Enum):
    ROUND = 1


@dataclasses.dataclass
class Chair:
    legs: int


class Furniture(broker.Proxy):
    @staticmethod
    def _arrives_as(record: broker.Record) -> Any:
        if record._kind == "enum":
            return record.value
        return [record._type.rpartition(".")[2], {**record._fields}] if record.legs < 9 else 1 / 0


@pytest.mark.usefixtures("either_way")
def test_it_says_what_arrives_in_place_of_records() -> None:
    unknown = [Chair(4), {"shape": Shape.ROUND}]
    with broker.Daemon(proxy_class=Furniture) as daemon, broker.Daemon() as plain:
        house = broker.Proxy(daemon.register(House()))
        assert house.class_of(Chair(3)) == "list"
        assert house.same(Chair(3)) == ["Chair", {"legs": 3}]
        with pytest.raises(broker.errors.CodecError, match=r"Chair cannot be made of what arrived: ZeroDivisionError"):
            house.same(Chair(9))
        uri = plain.register(House())
        assert broker.Proxy(uri, proxy_class=Furniture).same(unknown) == [["Chair", {"legs": 4}], {"shape": 1}]
        assert [type(each) for each in broker.Proxy(uri).same(unknown)] == [broker.Record, dict]
    text = broker.dumps(Chair(4))
    assert broker.loads(text, proxy_class=Furniture) == ["Chair", {"legs": 4}]
