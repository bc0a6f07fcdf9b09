"""Batches, and the futures of Pyro4."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from broker.compat.errors import PyroError
from broker.compat.proxy import ExceptionWrapper, _RemoteMethod


class BatchProxy:
    """Gathers calls of a proxy; calling it makes them, one after the other, and gives their results in order."""

    def __init__(self, proxy: Any, calls: Any = ()) -> None:
        self.__proxy, self.__calls = proxy, list(calls)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.__calls.append((name, args, kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __copy__(self) -> Self:
        return type(self)(self.__proxy, self.__calls)

    def __call__(self, oneway: bool = False, asynchronous: bool = False, **kwargs: bool) -> Any:
        asynchronous = kwargs.get("async", asynchronous)
        if oneway and asynchronous:
            raise PyroError("async oneway calls make no sense")
        calls, self.__calls = self.__calls, []
        if asynchronous:
            return FutureResult().begin(lambda: self.__results(self.__proxy._pyroInvokeBatch(calls)))
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
    return proxy._pyroBatch()


def asyncproxy(proxy: Any, asynchronous: bool = True, **kwargs: bool) -> None:
    """Has the methods of a proxy return futures from now on, or results again."""
    proxy._pyroAsync(asynchronous, **kwargs)


class AsyncRemoteMethod:
    """A method whose calls give futures: each has a session of its own, and so they are made at the same time."""

    def __init__(self, proxy: Any, name: str, max_retries: int) -> None:
        self._proxy, self._name, self._max_retries = proxy, name, max_retries

    def __call__(self, *args: object, **kwargs: object) -> FutureResult:
        def call() -> Any:
            with self._proxy.__copy__() as proxy:
                return _RemoteMethod(proxy._pyroInvoke, self._name, self._max_retries)(*args, **kwargs)

        return FutureResult().begin(call)


class FutureResult:
    """What will come of a call: `value` waits for it, and raises what it raised."""

    def __init__(self) -> None:
        self._ready, self._lock = threading.Event(), threading.RLock()
        self._chain: list[Callable[[Any], Any]] = []
        self._value: Any = None
        self.exceptionhandler: Callable[[BaseException], object] | None = None

    def begin(self, call: Callable[[], Any]) -> Self:
        """Makes the call on another thread."""

        def run() -> None:
            try:
                value = call()
            except Exception as error:  # who asks for the value gets it
                value = ExceptionWrapper(error)
            self.set_value(value)

        threading.Thread(target=run, daemon=True).start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
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
            self._ready.set()
            if self.exceptionhandler is not None:
                self.iferror(self.exceptionhandler)

    value = property(get_value, set_value)

    def _apply(self, call: Callable[[Any], Any]) -> None:
        if not isinstance(self._value, ExceptionWrapper):
            try:
                self._value = call(self._value)
            except Exception as error:  # who asks for the value gets it
                self._value = ExceptionWrapper(error)

    def set_cancelled(self) -> None:
        self.set_value(ExceptionWrapper(RuntimeError("future has been cancelled")))

    def then(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Calls the function with the value, and the arguments; what it returns is the value then."""
        with self._lock:
            if self.ready:
                self._apply(lambda value: call(value, *args, **kwargs))
            else:
                self._chain.append(lambda value: call(value, *args, **kwargs))
        return self

    def iferror(self, exceptionhandler: Callable[[BaseException], object]) -> Self:
        """Calls the function with the exception, if that is what comes."""
        with self._lock:
            self.exceptionhandler = exceptionhandler
            if self.ready and isinstance(self._value, ExceptionWrapper):
                exceptionhandler(self._value.exception)
        return self


class Future:
    """Makes a call on another thread, once; `then` and `iferror` say what comes after."""

    def __init__(self, somecallable: Callable[..., Any]) -> None:
        self._callable, self._result = somecallable, FutureResult()
        self._cancel = threading.Event()
        self._delay = 0.0
        self.cancelled = self.completed = self._begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> FutureResult:
        if self._begun or self.cancelled:
            raise RuntimeError(f"the future has {'already been evaluated' if self._begun else 'been cancelled'}")
        self._begun = True

        def call() -> Any:
            if self._cancel.wait(self._delay):
                raise RuntimeError("future has been cancelled")
            self.completed = True
            return self._callable(*args, **kwargs)

        return self._result.begin(call)

    def delay(self, seconds: float) -> bool:
        self._delay = seconds
        return not self.completed

    def cancel(self) -> bool:
        if not self.completed:
            self.cancelled = True
            self._cancel.set()
        return not self.completed

    def then(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        self._result.then(call, *args, **kwargs)
        return self

    def iferror(self, exceptionhandler: Callable[[BaseException], object]) -> Self:
        self._result.iferror(exceptionhandler)
        return self
