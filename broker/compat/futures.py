"""Batches, and the futures of Pyro4."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from broker.compat.errors import PyroError
from broker.compat.proxy import ExceptionWrapper, _RemoteMethod


class BatchProxy:
    """Gathers calls of a proxy; calling it makes them, one after the other, and gives their results in order."""

    def __init__(self, proxy: Any) -> None:
        self.__proxy = proxy
        self.__calls: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.__calls.append((name, args, kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __copy__(self) -> BatchProxy:
        twin = type(self)(self.__proxy)
        twin.__calls = list(self.__calls)
        return twin

    def __call__(self, oneway: bool = False, asynchronous: bool = False, **kwargs: bool) -> Any:
        asynchronous = kwargs.get("async", asynchronous)
        if oneway and asynchronous:
            raise PyroError("async oneway calls make no sense")
        calls, self.__calls = self.__calls, []
        self.__proxy._pyroClaimOwnership()
        if asynchronous:
            return FutureResult.of(lambda: self.__results(self.__proxy._pyroInvokeBatch(calls)))
        results = self.__proxy._pyroInvokeBatch(calls, oneway) if calls else []
        return None if oneway else self.__results(results)

    def __results(self, results: Any) -> Iterator[Any]:
        for result in results:
            if isinstance(result, ExceptionWrapper):
                result.raiseIt()
            yield result

    def _pyroRelease(self) -> None:
        pass

    def _pyroInvoke(self, name: str, args: Any, kwargs: Any) -> Any:
        return self()


def batch(proxy: Any) -> Any:
    """Gathers calls of a proxy."""
    return proxy._pyroBatch()


def asyncproxy(proxy: Any, asynchronous: bool = True, **kwargs: bool) -> None:
    """Has the methods of a proxy return futures from now on, or results again."""
    proxy._pyroAsync(asynchronous, **kwargs)


class AsyncRemoteMethod:
    """A method whose calls give futures: each has a connection of its own, and so they are made at the same time."""

    def __init__(self, proxy: Any, name: str, max_retries: int) -> None:
        self._proxy, self._name, self._max_retries = proxy, name, max_retries

    def __call__(self, *args: object, **kwargs: object) -> FutureResult:
        def call() -> Any:
            with copy.copy(self._proxy) as proxy:
                return _RemoteMethod(proxy._pyroInvoke, self._name, self._max_retries)(*args, **kwargs)

        return FutureResult.of(call)


class FutureResult:
    """What will come of a call: `value` waits for it, and raises what it raised."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._lock = threading.RLock()
        self._chain: list[Callable[[Any], Any]] = []
        self._value: Any = None
        self.exceptionhandler: Callable[[BaseException], object] | None = None

    @classmethod
    def of(cls, call: Callable[[], Any], result: FutureResult | None = None) -> FutureResult:
        """Makes the call on another thread."""
        result = result or cls()

        def run() -> None:
            try:
                value = call()
            except Exception as error:
                value = ExceptionWrapper(error)
            result.set_value(value)

        threading.Thread(target=run, daemon=True).start()
        return result

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is there within that many seconds."""
        return self._ready.wait(timeout)

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    def get_value(self) -> Any:
        self._ready.wait()
        if isinstance(self._value, ExceptionWrapper):
            self._value.raiseIt()
        return self._value

    def set_value(self, value: Any) -> None:
        with self._lock:
            self._value = value
            for call in self._chain:
                self._apply(call)
            self._chain = []
            if isinstance(self._value, ExceptionWrapper) and self.exceptionhandler is not None:
                self.exceptionhandler(self._value.exception)
            self._ready.set()

    value = property(get_value, set_value)

    def _apply(self, call: Callable[[Any], Any]) -> None:
        if isinstance(self._value, ExceptionWrapper):
            return
        try:
            self._value = call(self._value)
        except Exception as error:  # whoever asks for the value gets it; nobody would wait for ever
            self._value = ExceptionWrapper(error)

    def set_cancelled(self) -> None:
        self.set_value(ExceptionWrapper(RuntimeError("future has been cancelled")))

    def then(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Calls the function with the value, and the arguments; what it returns is the value then."""
        with self._lock:
            step = functools.partial(_with_value_first, call, args, kwargs)
            if self.ready:
                self._apply(step)
            else:
                self._chain.append(step)
        return self

    def iferror(self, exceptionhandler: Callable[[BaseException], object]) -> Self:
        """Calls the function with the exception, if that is what comes."""
        with self._lock:
            self.exceptionhandler = exceptionhandler
            if self.ready and isinstance(self._value, ExceptionWrapper):
                exceptionhandler(self._value.exception)
        return self


def _with_value_first(call: Callable[..., Any], args: Any, kwargs: Any, value: Any) -> Any:
    return call(value, *args, **kwargs)


class Future:
    """Makes a call on another thread, once; `then` and `iferror` say what comes after."""

    def __init__(self, somecallable: Callable[..., Any]) -> None:
        self._callable = somecallable
        self._wake = threading.Event()
        self._delay = 0.0
        self._result = FutureResult()
        self.cancelled = self.completed = self._begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> FutureResult:
        """Begins, and gives the future. Raises RuntimeError if it was begun before, or cancelled."""
        if self._begun:
            raise RuntimeError("the future has already been evaluated")
        if self.cancelled:
            raise RuntimeError("the future has been cancelled")
        self._begun = True

        def call() -> Any:
            if self._wake.wait(self._delay):
                raise RuntimeError("future has been cancelled")
            self.completed = True
            return self._callable(*args, **kwargs)

        return FutureResult.of(call, self._result)

    def delay(self, seconds: float) -> bool:
        """Begins so many seconds later. False if it has been evaluated."""
        if self.completed:
            return False
        self._delay = seconds
        return True

    def cancel(self) -> bool:
        """Does not begin at all. False if it has been evaluated."""
        if self.completed:
            return False
        self.cancelled = True
        self._wake.set()
        return True

    def then(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        self._result.then(call, *args, **kwargs)
        return self

    def iferror(self, exceptionhandler: Callable[[BaseException], object]) -> Self:
        self._result.iferror(exceptionhandler)
        return self
