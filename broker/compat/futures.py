"""Batches, and the futures of Pyro4."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from broker.compat.errors import PyroError, translating


class BatchProxy(contextlib.AbstractContextManager[Any]):
    """Gathers calls of a proxy; calling it makes them, one after the other, and gives their results in order."""

    def __init__(self, proxy: Any, calls: Any = ()) -> None:
        self.__proxy, self.__calls = proxy, list(calls)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.__calls.append((name, args, kwargs))

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
            return FutureResult().begin(lambda: _each(self.__proxy._pyroInvokeBatch(calls)))
        results = self.__proxy._pyroInvokeBatch(calls, oneway)
        return None if oneway else _each(results)


def _each(results: Iterable[Any]) -> Iterator[Any]:
    with translating():
        for result in results:
            yield result.raiseIt() if isinstance(result, _ExceptionWrapper) else result


def batch(proxy: Any) -> Any:
    return proxy._pyroBatch()


def asyncproxy(proxy: Any, asynchronous: bool = True, **kwargs: bool) -> None:
    """Has the methods of a proxy return futures from now on, or results again."""
    proxy._pyroAsync(asynchronous, **kwargs)


class AsyncRemoteMethod:
    """A method whose calls give futures: each has a session of its own, and so they are made at the same time."""

    def __init__(self, proxy: Any, name: str, max_retries: int | None = None) -> None:
        self._proxy, self._name = proxy, name

    def __call__(self, *args: object, **kwargs: object) -> FutureResult:
        def call() -> Any:
            with self._proxy.__copy__() as proxy:
                proxy._pyroAsync(False)
                return getattr(proxy, self._name)(*args, **kwargs)

        return FutureResult().begin(call)


class _ExceptionWrapper:
    """An exception where a result is expected: it is raised."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def raiseIt(self) -> Any:
        raise self.exception


class FutureResult:
    """What will come of a call, and of what is to be done with it `then`: `value` waits for it, or raises."""

    def __init__(self) -> None:
        self._first: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._last, self._lock = self._first, threading.Lock()

    def begin(self, call: Callable[[], Any]) -> Self:
        """Makes the call on another thread."""
        threading.Thread(target=_settle, args=(self._first, call), daemon=True).start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
        return bool(concurrent.futures.wait([self._last], timeout).done)

    ready = property(lambda self: self._last.done())

    def get_value(self) -> Any:
        return self._last.result()

    def set_value(self, value: Any) -> None:
        _settle(self._first, value.raiseIt if isinstance(value, _ExceptionWrapper) else lambda: value)

    value = property(get_value, set_value)

    def set_cancelled(self) -> None:
        self.set_value(_ExceptionWrapper(RuntimeError("future has been cancelled")))

    def then(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Calls the function with the value, and the arguments; what it returns is the value then."""
        following: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._lock:
            before, self._last = self._last, following
        before.add_done_callback(lambda done: _settle(following, lambda: call(done.result(), *args, **kwargs)))
        return self

    def iferror(self, exceptionhandler: Callable[[BaseException], object]) -> Self:
        """Calls the function with the exception, if that is what comes."""
        self._last.add_done_callback(lambda done: done.exception() and exceptionhandler(done.exception()))  # type: ignore[arg-type]
        return self


def _settle(future: concurrent.futures.Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # who asks for the value gets it; if it has one already, that stays
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_exception(error)


class Future(FutureResult):
    """Makes a call on another thread, once; `then` and `iferror` say what comes after."""

    def __init__(self, somecallable: Callable[..., Any]) -> None:
        super().__init__()
        self._callable, self._cancel, self._delay = somecallable, threading.Event(), 0.0
        self.completed = self._begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> FutureResult:
        if self._begun or self.cancelled:
            raise RuntimeError(f"the future has {'already been evaluated' if self._begun else 'been cancelled'}")
        self._begun = True

        def call() -> Any:
            if self._cancel.wait(self._delay):
                raise RuntimeError("future has been cancelled")
            self.completed = True
            return self._callable(*args, **kwargs)

        return self.begin(call)

    cancelled = property(lambda self: self._cancel.is_set())

    def delay(self, seconds: float) -> bool:
        self._delay = seconds
        return not self.completed

    def cancel(self) -> bool:
        if not self.completed:
            self._cancel.set()
        return not self.completed
