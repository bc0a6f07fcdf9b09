"""A thermometer behind a driver that must be used by one thread only: that which opened it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import broker


class VendorDriver:
    """Stands for the library of some maker, which is bound to the thread that opened the device."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._raw = 2930

    def query(self, command: str) -> int:
        if threading.get_ident() != self._thread:
            raise RuntimeError("the device was opened by another thread")
        if command == "STEP":
            self._raw += 5
        return self._raw


class Thermometer:
    """What callers see: temperatures, and nothing of the driver or its thread."""

    def __init__(self) -> None:
        self._driver = VendorDriver()
        self._readings: list[float] = []

    def measure(self) -> float:
        """One reading, in degrees Celsius."""
        celsius = self._driver.query("STEP") / 10 - 273
        self._readings.append(celsius)
        return round(celsius, 1)

    @property
    def readings(self) -> int:
        return len(self._readings)

    def thread(self) -> str:
        """The name of the thread that does the work."""
        return threading.current_thread().name

    async def countdown(self, steps: int) -> str:
        """`async def` methods run on the daemon's loop, also here: they must leave the driver alone."""
        return f"{steps} … 1 on {threading.current_thread().name}"


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="driver") as driver, broker.Daemon() as daemon:
        thermometer = driver.submit(Thermometer).result()  # made by the thread that is going to use it
        daemon.register(thermometer, "example.thermometer", executor=driver)
        broker.serve({thermometer: "example.thermometer"}, daemon=daemon, use_ns=False)
