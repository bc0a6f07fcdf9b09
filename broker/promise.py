"""`Promise`: what will come of a call, and what is to be done with it then."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from typing import Any, Self

__all__ = ["Promise"]


class Promise:
    """What will come of a call, and of what is done with it then::

        broker.Promise(warehouse.take.future("Janet", "couch")).then(deliver, "by van").on_error(complain)

    `future` is any `concurrent.futures.Future`; without one it is up to `run`, or to `set_result` and `set_exception`.
    Each step runs on the thread on which the value comes, at once if it is there. Any thread may use a promise.
    """

    def __init__(self, future: Future[Any] | None = None) -> None:
        self._first: Future[Any] = Future() if future is None else future
        self._last = self._first
        self._adding = threading.Lock()

    # ---- what is done with the value

    def then(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Calls the function with the value, and the arguments; what it returns is the value from then on.

        If it fails, or what comes before it has failed, the promise has failed.
        """
        following: Future[Any] = Future()
        with self._adding:
            before, self._last = self._last, following
        before.add_done_callback(lambda done: _settle(following, lambda: function(done.result(), *args, **kwargs)))
        return self

    def on_error(self, function: Callable[[BaseException], object]) -> Self:
        """Calls the function with the exception if there is one up to here, which stays what comes of the promise."""

        def tell(done: Future[Any]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            if error is not None:
                function(error)

        self._last.add_done_callback(tell)
        return self

    def done(self) -> bool:
        """Whether the value, or the exception, is there."""
        return self._last.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for it, for `timeout` seconds at most; returns whether it is there."""
        return bool(wait([self._last], timeout).done)

    def result(self, timeout: float | None = None) -> Any:
        """The value, waited for. Raises the exception in its place, and TimeoutError after `timeout` seconds."""
        return self._last.result(timeout)

    def cancel(self) -> bool:
        """Cancels the call, with what was to follow it; False if it is there already, or cannot be cancelled."""
        return self._first.cancel()

    # ---- where the value comes from

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Self:
        """Calls the function on a thread of its own, which holds up no exit: what it returns is the value."""
        call = functools.partial(function, *args, **kwargs)
        threading.Thread(target=_settle, args=(self._first, call), name="broker-promise", daemon=True).start()
        return self

    def set_result(self, value: Any) -> None:
        """Gives the value. Does nothing if there is one, or an exception."""
        _hold(self._first, value, None)

    def set_exception(self, error: BaseException) -> None:
        """Gives the exception. Does nothing if there is one, or a value."""
        _hold(self._first, None, error)

    def __repr__(self) -> str:
        return f"<Promise {'done' if self.done() else 'pending'}>"


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # who asks for the value gets it
        _hold(future, None, error)
    else:
        _hold(future, result, None)


def _hold(future: Future[Any], result: Any, error: BaseException | None) -> None:
    """Puts it into the future; if that holds something already, or was cancelled, this stays."""
    try:
        future.set_result(result) if error is None else future.set_exception(error)
    except InvalidStateError:
        pass
