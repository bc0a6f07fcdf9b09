"""ZeroC Ice 3.7, with its defaults; only a callback into a caller that waits needs a second thread of the server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import Ice

from benchmarks.contestants.client import Call, Client, Ready, add_all
from benchmarks.target import Target

Ice.loadSlice("", [str(Path(__file__).with_name("target.ice"))])

import BenchmarkSlice as Definitions  # noqa: E402 - made by loadSlice

# Big messages are refused by default; 0 takes the limit away.
_PROPERTIES = {"Ice.MessageSizeMax": "0", "Ice.Default.Host": "127.0.0.1"}


def serve(variant: str, ready: Ready) -> None:
    # By default the one thread that carries out the call is also the one that would read the answer of the callback.
    communicator = _communicator(**{"Ice.ThreadPool.Server.Size": "2"} if variant == "two threads" else {})
    adapter = communicator.createObjectAdapterWithEndpoints("target", "tcp -h 127.0.0.1")
    proxy = adapter.add(Servant(), Ice.stringToIdentity("target"))
    adapter.activate()
    ready(str(proxy))
    communicator.waitForShutdown()


class Servant(Definitions.Target):  # type: ignore[misc]
    _target = Target()

    def add(self, a: int, b: int, _current: Any) -> int:
        return self._target.add(a, b)

    def length(self, data: bytes, _current: Any) -> int:
        return self._target.length(data)

    def same(self, values: Any, _current: Any) -> Any:
        return values

    def fail(self, _current: Any) -> None:
        try:
            self._target.fail()
        except ValueError as error:
            raise Definitions.ValueError(str(error)) from None

    def callBack(self, callback: Any, current: Any) -> int:  # noqa: N802 - its name in Slice
        # Over the connection that the call came by: nothing else reaches a process without a port.
        return self._target.call_back(Definitions.CallbackPrx.uncheckedCast(callback.ice_fixed(current.con)))

    def block(self, _current: Any) -> None:
        self._target.block()


class CallbackServant(Definitions.Callback):  # type: ignore[misc]
    def add(self, a: int, b: int, _current: Any) -> int:
        return a + b


class IceClient(Client):
    def __init__(self, variant: str, address: str) -> None:
        super().__init__(variant, address)
        self.communicator = _communicator()
        self.proxy = self._proxy("")

    def caller(self) -> Call:
        return _caller(self.proxy)

    def length(self) -> Callable[[bytes], int]:
        proxy = self.proxy
        return lambda data: proxy.length(data)

    def futures(self, count: int) -> None:
        proxy = self.proxy
        add_all(future.result() for future in [proxy.addAsync(3, 4) for _ in range(count)])

    def same(self) -> Callable[[Any], Any]:
        proxy = self.proxy
        return lambda array: proxy.same(array)

    def fail(self) -> Call:
        proxy = self.proxy

        def fail() -> None:
            try:
                proxy.fail()
            except Definitions.ValueError as error:
                raise ValueError(error.message) from None

        return fail

    def call_back(self) -> Call:
        proxy = self.proxy
        adapter = self.communicator.createObjectAdapter("")
        callback = adapter.add(CallbackServant(), Ice.stringToIdentity(str(uuid.uuid4())))
        adapter.activate()
        proxy.ice_getConnection().setAdapter(adapter)
        callback = Definitions.CallbackPrx.uncheckedCast(callback)
        return lambda: proxy.callBack(callback)

    def connections(self, count: int) -> list[Call]:
        return [_caller(self._proxy(f"connection {number}")) for number in range(count)]

    def proxies(self, count: int) -> list[Call]:
        return [_caller(self._proxy("")) for _ in range(count)]

    def pending(self, count: int) -> list[Any]:
        return [self.proxy.blockAsync() for _ in range(count)]

    def _proxy(self, connection: str) -> Any:
        proxy = self.communicator.stringToProxy(self.address).ice_connectionId(connection)
        return Definitions.TargetPrx.uncheckedCast(proxy)


def _communicator(**more: str) -> Any:
    data = Ice.InitializationData()
    data.properties = Ice.createProperties()
    for name, value in {**_PROPERTIES, **more}.items():
        data.properties.setProperty(name, value)
    return Ice.initialize(data)


def _caller(proxy: Any) -> Call:
    return lambda: proxy.add(3, 4)


CLIENT = IceClient
