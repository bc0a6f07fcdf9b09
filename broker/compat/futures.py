"""Batches, and the futures of Pyro4."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import broker
from broker.compat.errors import PyroError, refuse, translating


class BatchProxy(contextlib.AbstractContextManager[Any]):
    """Gathers calls of a proxy; calling it makes them, one after the other, and gives their results in order."""

    def __init__(self, proxy: Any, calls: Any = ()) -> None:
        self.__proxy, self.__calls = proxy, list(calls)

    def __getattr__(self, name: str) -> Callable[..., None]:
        refuse(name.startswith("__"), AttributeError, name)
        return lambda *args, **kwargs: self.__calls.append((name, args, kwargs))

    def __exit__(self, *exc_info: object) -> None:
        """What was gathered stays."""

    def __copy__(self) -> Self:
        return type(self)(self.__proxy, self.__calls)

    def __call__(self, oneway: bool = False, asynchronous: bool = False, **kwargs: bool) -> Any:
        asynchronous = kwargs.get("async", asynchronous)
        refuse(oneway and asynchronous, PyroError, "async oneway calls make no sense")
        calls, self.__calls = self.__calls, []
        if asynchronous:
            return FutureResult().run(lambda: _each(self.__proxy._pyroInvokeBatch(calls)))
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

        return FutureResult().run(call)


class _ExceptionWrapper:
    """An exception where a result is expected: it is raised."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def raiseIt(self) -> Any:
        raise self.exception


broker.register_type(_ExceptionWrapper, name="Pyro.Exception", to_dict=vars, from_dict=lambda d: _ExceptionWrapper(**d))


class FutureResult(broker.Promise):
    """What will come of a call, and of what is to be done with it `then`: `value` waits for it, or raises."""

    ready = property(broker.Promise.done)
    get_value, iferror = broker.Promise.result, broker.Promise.on_error

    def set_value(self, value: Any) -> None:
        if isinstance(value, _ExceptionWrapper):
            self.set_exception(value.exception)
        else:
            self.set_result(value)

    value = property(get_value, set_value)

    def set_cancelled(self) -> None:
        self.set_exception(RuntimeError("future has been cancelled"))


class Future(FutureResult):
    """Makes a call on another thread, once; `then` and `iferror` say what comes after."""

    def __init__(self, somecallable: Callable[..., Any]) -> None:
        super().__init__()
        self._callable, self._cancel, self._delay = somecallable, threading.Event(), 0.0
        self.completed = self._begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> FutureResult:
        refuse(self._begun, RuntimeError, "the future has already been evaluated")
        refuse(self.cancelled, RuntimeError, "the future has been cancelled")
        self._begun = True
        return self.run(self._evaluate, *args, **kwargs)

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        if self._cancel.wait(self._delay):
            raise RuntimeError("future has been cancelled")
        self.completed = True
        return self._callable(*args, **kwargs)

    cancelled = property(lambda self: self._cancel.is_set())

    def delay(self, seconds: float) -> bool:
        self._delay = seconds
        return not self.completed

    def cancel(self) -> bool:
        if not self.completed:
            self._cancel.set()
        return not self.completed
