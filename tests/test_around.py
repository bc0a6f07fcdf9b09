"""Functions around calls, on the side of the daemon and on that of the proxy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import dataclasses
import pickle
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import broker
from broker.around import Around, Next
from broker.calling import around_futures
from broker.errors import AccessDenied, Overloaded, RemoteError
from tests.services.test_invoke import Caller

SOON = 40.0


class Shop:
    def __init__(self) -> None:
        self._discount = 0
        self.sold: list[str] = []
        self.entered = threading.Event()

    def sell(self, item: str, count: int = 1) -> str:
        self.sold.append(item)
        return f"{count} {item}"

    async def order(self, item: str) -> str:
        await asyncio.sleep(0)
        return f"ordered {item}"

    def fail(self) -> None:
        raise AccessDenied("by the method")

    async def fail_later(self) -> None:
        raise AccessDenied("by the method")

    def metadata(self) -> dict[str, str | bytes]:
        return dict(broker.current_context.metadata)

    def wait(self, seconds: float) -> bool:
        return broker.current_context.wait_cancelled(seconds)

    def stay(self) -> bool:
        self.entered.set()
        return broker.current_context.wait_cancelled(SOON)

    def thread(self) -> str:
        return threading.current_thread().name

    @broker.oneway
    def note(self, text: str) -> None:
        self.sold.append(text)

    @property
    def discount(self) -> int:
        return self._discount

    @discount.setter
    def discount(self, value: int) -> None:
        self._discount = value

    def __len__(self) -> int:
        return len(self.sold)


MakeProxy = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[MakeProxy]:
    """serve([f, …], Shop()) is a proxy for a shop at a daemon with these functions."""
    daemons: list[broker.Daemon] = []

    def make(around: list[Any], shop: object = None, **options: Any) -> Any:
        daemon = broker.Daemon(around=around)
        daemons.append(daemon)
        daemon.start()
        return broker.Proxy(daemon.register(Shop() if shop is None else shop, "shop", **options), local=False)

    yield make
    for daemon in daemons:
        daemon.shutdown()


class Recorder:
    """Notes what passes it, and lets it pass."""

    def __init__(self, name: str = "", notes: list[Any] | None = None) -> None:
        self.name = name
        self.notes: list[Any] = [] if notes is None else notes
        self.calls: list[broker.Call] = []

    def __call__(self, call: broker.Call, next: Next) -> Any:
        self.calls.append(call)
        self.notes.append(f"into {self.name}")
        try:
            return next(call)
        finally:
            self.notes.append(f"out of {self.name}")


# ---- what a call looks like


def test_the_first_function_is_the_outermost(serve: MakeProxy) -> None:
    notes: list[Any] = []
    proxy = serve([Recorder("first", notes), Recorder("second", notes)])
    assert proxy.sell("lamp") == "1 lamp"
    assert notes == ["into first", "into second", "out of second", "out of first"]


def test_a_function_sees_the_whole_call(serve: MakeProxy) -> None:
    seen = Recorder()
    contexts: list[tuple[Any, ...]] = []

    def context(call: broker.Call, next: Next) -> Any:
        now = broker.current_context
        contexts.append((now.object_id, now.member, now.correlation_id, threading.current_thread().name))
        return next(call)

    proxy = serve([seen, context])
    proxy._broker.set("metadata", {"who": "Janet"})
    proxy.sell("lamp", count=2)
    proxy.discount = 3
    assert proxy.discount == 3
    assert len(proxy) == 1
    proxy.note.oneway("done")
    assert len(proxy) == 2
    assert [(call.member, call.kind, call.args, call.kwargs, call.oneway) for call in seen.calls] == [
        ("sell", "method", ("lamp",), {"count": 2}, False),
        ("discount", "set", (3,), {}, False),
        ("discount", "get", (), {}, False),
        ("__len__", "method", (), {}, False),
        ("note", "method", ("done",), {}, True),
        ("__len__", "method", (), {}, False),
    ]
    first = seen.calls[0]
    assert (first.object, str(first), first.metadata) == ("shop", "shop.sell", {"who": "Janet"})
    assert first.location == proxy._broker.uri.location
    assert first.client is not None
    assert first.client.codec == "json"
    assert first.correlation_id is not None
    assert contexts[0][:3] == ("shop", "sell", first.correlation_id)
    assert contexts[0][3] != threading.current_thread().name


def test_unary_calls_pass_too_and_descriptions_do_not(serve: MakeProxy) -> None:
    seen = Recorder()
    proxy = serve([seen])
    assert proxy._broker.description.members
    assert seen.calls == []
    with grpc.insecure_channel(proxy._broker.uri.location) as channel:
        assert Caller(channel)("sell", "lamp").result.string_value == "1 lamp"
    assert [str(call) for call in seen.calls] == ["shop.sell"]


# ---- what a function can do


def test_a_function_may_change_arguments_and_metadata(serve: MakeProxy) -> None:
    def double(call: broker.Call, next: Next) -> Any:
        call.metadata["passed"] = "yes"
        return next(dataclasses.replace(call, kwargs={"count": 2}) if call.member == "sell" else call)

    def replace_metadata(call: broker.Call, next: Next) -> Any:
        return next(dataclasses.replace(call, metadata={**call.metadata, "replaced": b"too"}))

    proxy = serve([double, replace_metadata])
    proxy._broker.set("metadata", {"who": "Janet"})
    assert proxy.sell("lamp") == "2 lamp"
    assert proxy.metadata() == {"who": "Janet", "passed": "yes", "replaced": b"too"}


def test_a_function_may_answer_and_change_the_answer(serve: MakeProxy) -> None:
    shop = Shop()

    def cached(call: broker.Call, next: Next) -> Any:
        if call.args == ("lamp",):
            return "no lamps today"
        return next(call).upper()

    proxy = serve([cached], shop)
    assert proxy.sell("lamp") == "no lamps today"
    assert proxy.sell("chair") == "1 CHAIR"
    assert shop.sold == ["chair"]


def test_what_a_function_raises_is_the_result(serve: MakeProxy) -> None:
    def check(call: broker.Call, next: Next) -> Any:
        if call.args == ("lamp",):
            raise LookupError("sold out")
        return next(call)

    with pytest.raises(LookupError, match="sold out") as caught:
        serve([check]).sell("lamp")
    assert "in check" in (broker.errors.get_remote_traceback(caught.value) or "")


@pytest.mark.parametrize("error", [AccessDenied, Overloaded])
@pytest.mark.parametrize("member", ["sell", "order"])
def test_a_refusal_by_a_function_is_one_of_the_broker(
    serve: MakeProxy, member: str, error: type[broker.errors.BrokerError]
) -> None:
    shop = Shop()

    def check(call: broker.Call, next: Next) -> Any:
        raise error(f"not {call.args[0]}")

    async def check_later(call: broker.Call, next: Next) -> Any:
        await asyncio.sleep(0)
        check(call, next)

    for function in (check, check_later):
        with pytest.raises(error, match="not lamp") as caught:
            getattr(serve([Recorder(), function], shop), member)("lamp")
        assert not caught.value.may_have_run
    assert shop.sold == []


@pytest.mark.parametrize("member", ["fail", "fail_later"])
def test_a_refusal_that_the_method_met_is_a_result(serve: MakeProxy, member: str) -> None:
    with pytest.raises(RemoteError, match="by the method") as caught:
        getattr(serve([Recorder()]), member)()
    assert caught.value.type == "broker.errors.AccessDenied"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"args": ()}, "missing 1 required positional argument: 'item'"),
        ({"member": "fail"}, "another member"),
        ({"object": "other"}, "another object"),
        ({"kind": "get"}, "another kind"),
        ({"oneway": True}, "another oneway"),
    ],
)
def test_what_is_called_cannot_be_changed(serve: MakeProxy, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        serve([lambda call, next: next(dataclasses.replace(call, **changes))]).sell("lamp")


def test_next_takes_a_call(serve: MakeProxy) -> None:
    with pytest.raises(TypeError, match="next takes the call"):
        serve([lambda call, next: next("lamp")]).sell("lamp")


def test_a_property_takes_one_value(serve: MakeProxy) -> None:
    proxy = serve([lambda call, next: next(dataclasses.replace(call, args=(1, 2)))])
    with pytest.raises(TypeError, match="to set a property takes 1 arguments, and next was given 2"):
        proxy.discount = 3
    with pytest.raises(TypeError, match="to get a property takes 0"):
        _ = proxy.discount


@pytest.mark.parametrize("wrong", [None, 3, [3], Recorder()])
def test_only_functions_go_around(wrong: Any) -> None:
    with pytest.raises(TypeError, match="around takes"):
        broker.Daemon(around=wrong)


# ---- async def


async def passing(call: broker.Call, next: Next) -> Any:
    await asyncio.sleep(0)
    return await next(call)


@pytest.mark.parametrize("around", [[Recorder()], [passing], [passing, Recorder()], [Recorder(), passing, passing]])
def test_plain_and_async_functions_go_around_plain_and_async_methods(serve: MakeProxy, around: list[Around]) -> None:
    proxy = serve(around)
    assert proxy.sell("lamp") == "1 lamp"
    assert proxy.order("lamp") == "ordered lamp"
    assert proxy.discount == 0
    with pytest.raises(TypeError, match="missing 1 required"):
        proxy.sell()


def test_a_plain_function_gets_what_an_async_method_returns(serve: MakeProxy) -> None:
    def timed(call: broker.Call, next: Next) -> Any:
        async def wait() -> str:
            return f"timed: {await next(call)}"

        return wait() if call.member == "order" else next(call)

    assert serve([timed]).order("lamp") == "timed: ordered lamp"


def test_around_async_functions_a_plain_method_keeps_its_thread(serve: MakeProxy) -> None:
    """Not that of the loop, which one that waits would hold up for all."""
    threads: list[str] = []

    async def loop(call: broker.Call, next: Next) -> Any:
        threads.append(threading.current_thread().name)
        return await next(call)

    assert serve([loop]).thread() not in ("broker-loop", threading.current_thread().name)
    with ThreadPoolExecutor(1, "driver") as executor:
        assert serve([loop, loop], executor=executor).thread().startswith("driver")
    assert threads == ["broker-loop"] * 3


def test_an_executor_that_takes_nothing_more_is_an_error_for_the_function(serve: MakeProxy) -> None:
    executor = ThreadPoolExecutor(1)

    async def shut(call: broker.Call, next: Next) -> Any:
        executor.shutdown()
        return await next(call)

    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        serve([shut], executor=executor).thread()


def test_an_async_function_is_stopped_with_its_call(serve: MakeProxy) -> None:
    stopped = threading.Event()

    async def patient(call: broker.Call, next: Next) -> Any:
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            stopped.set()
            raise

    proxy = serve([patient])
    proxy._broker.set("timeout", 0.5)
    with pytest.raises(broker.errors.CallTimeout):
        proxy.sell("lamp")
    assert stopped.wait(SOON)


# ---- around the calls of a proxy


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def proxy(serve: MakeProxy, shop: Shop) -> Any:
    """A proxy for the shop, without functions."""
    return serve([], shop)


def test_functions_of_a_proxy_run_on_the_thread_that_calls(proxy: Any, shop: Shop) -> None:
    threads: list[threading.Thread] = []

    def note(call: broker.Call, next: Next) -> Any:
        threads.append(threading.current_thread())
        return next(call)

    notes: list[Any] = []
    first, second = Recorder("first", notes), Recorder("second", notes)
    proxy._broker.set("metadata", {"who": "Janet"})
    proxy._broker.set("around", [first, second, note])
    assert proxy.sell("lamp", count=2) == "2 lamp"
    assert notes == ["into first", "into second", "out of second", "out of first"]
    proxy.discount = 3
    assert (proxy.discount, len(proxy)) == (3, 1)
    proxy.note("done")
    assert proxy.sell.oneway("chair") is None
    assert len(proxy) == 3
    assert threads == [threading.current_thread()] * 7
    assert [(call.member, call.kind, call.args, call.kwargs, call.oneway) for call in first.calls[:5]] == [
        ("sell", "method", ("lamp",), {"count": 2}, False),
        ("discount", "set", (3,), {}, False),
        ("discount", "get", (), {}, False),
        ("__len__", "method", (), {}, False),
        ("note", "method", ("done",), {}, True),
    ]
    call = first.calls[0]
    assert (call.object, call.location, call.client) == ("shop", proxy._broker.uri.location, None)
    assert call.metadata == {"who": "Janet"}


def test_a_function_of_a_proxy_may_change_what_is_sent(proxy: Any) -> None:
    def inject(call: broker.Call, next: Next) -> Any:
        call.metadata["trace"] = b"\x01"
        return next(dataclasses.replace(call, args=tuple(map(str.upper, call.args))))

    proxy._broker.set("around", [inject])
    assert proxy.sell("lamp") == "1 LAMP"
    assert proxy.metadata() == {"trace": b"\x01"}
    assert dict(proxy._broker.metadata) == {}


def test_a_function_of_a_proxy_may_answer_raise_and_try_again(proxy: Any, shop: Shop) -> None:
    def answer(call: broker.Call, next: Next) -> Any:
        if call.args == ("lamp",):
            return "none left"
        if call.args == ("bomb",):
            raise PermissionError("not here")
        return f"{next(call)}, {next(call)}"

    proxy._broker.set("around", [answer])
    assert proxy.sell("lamp") == "none left"
    with pytest.raises(PermissionError, match="not here"):
        proxy.sell("bomb")
    assert proxy.sell("chair") == "1 chair, 1 chair"
    assert shop.sold == ["chair", "chair"]


def test_a_function_of_a_proxy_sees_every_error_of_the_call(serve: MakeProxy) -> None:
    seen: list[type] = []

    def note(call: broker.Call, next: Next) -> Any:
        try:
            return next(call)
        except Exception as error:
            seen.append(type(error))
            raise

    proxy = serve([])
    proxy._broker.set("around", [note])
    for member, argument, error in (
        ("sell", object(), broker.errors.CodecError),
        ("fail", None, TypeError),
        ("wait", SOON, broker.errors.CallTimeout),
    ):
        proxy._broker.set("timeout", 0.1 if member == "wait" else None)
        with pytest.raises(error):
            getattr(proxy, member)(argument)
    assert seen == [broker.errors.CodecError, TypeError, broker.errors.CallTimeout]


@pytest.mark.parametrize("changes", [{"member": "fail"}, {"oneway": True}, {"correlation_id": None}])
def test_what_a_proxy_calls_cannot_be_changed(proxy: Any, changes: dict[str, Any]) -> None:
    proxy._broker.set("around", [lambda call, next: next(dataclasses.replace(call, **changes))])
    with pytest.raises(TypeError, match="next was given a call with another"):
        proxy.sell("lamp")


def test_functions_of_a_proxy_are_copied_and_not_pickled(proxy: Any) -> None:
    seen = Recorder()
    proxy._broker.set("around", [seen])
    assert copy.copy(proxy)._broker.around == [seen]
    assert pickle.loads(pickle.dumps(proxy))._broker.around == []


def test_a_proxy_takes_plain_functions(proxy: Any) -> None:
    with pytest.raises(TypeError, match=r"plain functions: <function passing .* is `async def`"):
        broker.Proxy(proxy._broker.uri, around=[passing])
    for wrong in (passing, Recorder(), [None], None):
        with pytest.raises(TypeError, match="around"):
            proxy._broker.set("around", wrong if wrong is not passing else [passing])


# ---- correlation ids


class Relay:
    def __init__(self) -> None:
        self.ids: list[uuid.UUID | None] = []

    def ask(self, *others: Any) -> list[Any]:
        self.ids.append(broker.current_context.correlation_id)
        return [other.ask() for other in others]

    async def ask_later(self) -> uuid.UUID | None:
        return broker.current_context.correlation_id


def test_all_calls_that_one_call_leads_to_have_its_correlation_id(serve: MakeProxy) -> None:
    relay, other, seen = Relay(), Relay(), Recorder()
    first, second = serve([], relay), serve([], other)
    first._broker.set("around", [seen])
    first.ask(second, second)
    first.ask(second)
    assert len({*relay.ids}) == 2
    assert other.ids == [relay.ids[0], relay.ids[0], relay.ids[1]]
    assert [call.correlation_id for call in seen.calls] == relay.ids


@pytest.mark.parametrize("around", [[], [Recorder()]])
def test_a_program_may_give_several_calls_one_correlation_id(serve: MakeProxy, around: list[Around]) -> None:
    relay = Relay()
    proxy = serve([], relay)
    proxy._broker.set("around", around)
    given = uuid.uuid4()
    with broker.current_context.correlate(given) as one:
        assert one == given
        assert str(broker.current_context.correlation_id) == str(given)
        proxy.ask()
        proxy.ask()
        assert proxy.ask_later() == given
        with broker.current_context.correlate() as another:
            proxy.ask()
    proxy.ask()
    assert str(broker.current_context.correlation_id) == "None"
    assert relay.ids[:3] == [given, given, another]
    assert len({given, another, relay.ids[3], None}) == 4


def test_a_method_has_the_correlation_id_of_its_caller(serve: MakeProxy) -> None:
    class Stubborn:
        def change(self) -> None:
            with broker.current_context.correlate():
                pass

    with pytest.raises(RemoteError, match="has the correlation id of the call that it carries out"):
        serve([], Stubborn()).change()


# ---- futures


def test_the_functions_of_futures_run_on_threads_of_their_own(proxy: Any, shop: Shop) -> None:
    threads: list[str] = []

    def note(call: broker.Call, next: Next) -> Any:
        threads.append(threading.current_thread().name)
        return f"{next(call)}!"

    proxy._broker.set("around", [note])
    assert proxy.sell.future("lamp", count=2).result(SOON) == "2 lamp!"
    assert threads[0].startswith("broker-around")


def test_futures_with_functions_are_under_way_at_the_same_time(serve: MakeProxy) -> None:
    proxy = serve([], Meeting(3))
    proxy._broker.set("around", [Recorder()])
    futures = [proxy.meet.future(number) for number in range(3)]
    assert [future.result(SOON) for future in futures] == [0, 1, 2]


def test_futures_with_functions_start_in_the_order_made(serve: MakeProxy) -> None:
    meeting = Meeting(1)
    proxy = serve([], meeting, max_concurrency=1)
    proxy._broker.set("around", [Recorder()])
    futures = [proxy.note.future(number) for number in range(100)]
    proxy.note(100)  # of this thread, so it comes after them
    assert [future.result(SOON) for future in futures] == [None] * 100
    assert meeting.order == list(range(101))


class Meeting:
    """Its guests wait for each other."""

    def __init__(self, guests: int) -> None:
        self.order: list[int] = []
        self._barrier = threading.Barrier(guests)

    def meet(self, number: int) -> int:
        self._barrier.wait(SOON)
        return number

    def note(self, number: int) -> None:
        self.order.append(number)


def test_a_future_of_a_function_that_never_calls_next_lets_others_pass(proxy: Any, shop: Shop) -> None:
    proxy._broker.set("around", [lambda call, next: next(call) if call.args[0] == "lamp" else call.args[0].upper()])
    futures = [proxy.sell.future(item) for item in ("chair", "lamp", "table")]
    assert [future.result(SOON) for future in futures] == ["CHAIR", "1 lamp", "TABLE"]
    assert proxy.sell("lamp") == "1 lamp"


def test_errors_of_futures_pass_their_functions(proxy: Any) -> None:
    seen: list[type] = []

    def note(call: broker.Call, next: Next) -> Any:
        try:
            return next(call)
        except BaseException as error:
            seen.append(type(error))
            raise

    proxy._broker.set("around", [note])
    for argument, error in ((object(), broker.errors.CodecError), (None, TypeError)):
        with pytest.raises(error):
            proxy.fail.future(argument).result(SOON)
    assert seen == [broker.errors.CodecError, TypeError]


@pytest.mark.parametrize("when", ["before it is sent", "under way"])
def test_a_future_with_functions_is_cancelled(proxy: Any, shop: Shop, when: str) -> None:
    reached, go_on, seen = threading.Event(), threading.Event(), threading.Event()

    def slow(call: broker.Call, next: Next) -> Any:
        try:
            if when == "before it is sent":
                reached.set()
                assert go_on.wait(SOON)
            return next(call)
        except concurrent.futures.CancelledError:
            seen.set()
            raise

    proxy._broker.set("around", [slow])
    future = proxy.stay.future()
    assert (reached if when == "before it is sent" else shop.entered).wait(SOON)
    assert future.running()
    assert not future.done()
    assert future.cancel()
    assert future.cancelled()
    go_on.set()
    assert future.cancel()
    assert seen.wait(SOON)
    assert concurrent.futures.wait([future], SOON).done == {future}
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert proxy.sell.future("lamp").result(SOON) == "1 lamp"


def test_a_future_that_is_over_is_not_cancelled(proxy: Any) -> None:
    proxy._broker.set("around", [Recorder()])
    future = proxy.sell.future("lamp")
    assert future.result(SOON) == "1 lamp"
    assert not future.cancel()
    assert not future.running()


def test_futures_carry_the_context_of_who_makes_them(serve: MakeProxy) -> None:
    inner, seen = serve([], Relay()), Recorder()
    inner._broker.set("around", [seen])

    class Outer:
        def ask(self) -> tuple[Any, Any]:
            future = inner.ask_later.future()
            return broker.current_context.correlation_id, future.result(SOON)

    outer = serve([], Outer())
    outer._broker.set("metadata", {"who": "Janet"})
    mine, theirs = outer.ask()
    assert mine == theirs == seen.calls[0].correlation_id
    assert seen.calls[0].metadata == {"who": "Janet"}


def test_a_function_of_a_future_may_make_futures(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around_futures._threads, "limit", 2)
    other = copy.copy(proxy)
    other._broker.set("around", [Recorder()])

    def ask_first(call: broker.Call, next: Next) -> Any:
        return f"{other.sell.future('chair').result(SOON)} and {next(call)}"

    proxy._broker.set("around", [ask_first])
    futures = [proxy.sell.future("lamp") for _ in range(10)]
    assert [future.result(SOON) for future in futures] == ["1 chair and 1 lamp"] * 10


# ---- streams and batches


class Press:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def pages(self, count: int) -> Iterator[int]:
        try:
            yield from range(count)
        finally:
            self.closed.set()

    async def pages_later(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    def price(self, pages: int) -> int:
        if pages < 0:
            raise ValueError(f"{pages} pages")
        return pages * 2


def doubling(call: broker.Call, next: Next) -> Any:
    """Lets pass what is no stream, and doubles the items of one."""
    result = next(call)
    return (2 * item for item in result) if isinstance(result, Iterator) else result


@pytest.mark.parametrize("side", ["daemon", "proxy"])
def test_next_returns_the_iterator_of_a_stream(serve: MakeProxy, side: str) -> None:
    press = Press()
    proxy = serve([doubling] if side == "daemon" else [], press)
    if side == "proxy":
        proxy._broker.set("around", [doubling])
    assert list(proxy.pages(3)) == [0, 2, 4]
    assert list(proxy.pages_later(3)) in ([0, 2, 4], [0, 1, 2])  # the daemon's function sees an asynchronous iterator
    press.closed.clear()
    pages = proxy.pages(10**6)
    assert [next(pages), next(pages)] == [0, 2]
    pages.close()
    del pages
    assert press.closed.wait(SOON)
    assert list(proxy.pages.future(2).result(SOON)) == [0, 2]


def test_a_daemons_functions_see_each_call_of_a_batch(serve: MakeProxy) -> None:
    def check(call: broker.Call, next: Next) -> Any:
        call.metadata["seen"] = "yes"
        if call.args == (13,):
            raise AccessDenied("not thirteen")
        return next(call)

    seen = Recorder()
    proxy = serve([check, seen], Press())
    batch = broker.Batch(proxy, stop_on_error=False)
    for pages in (1, 13, -1, 2):
        batch.price(pages)
    results = batch()
    assert next(results) == 2
    with pytest.raises(AccessDenied, match="not thirteen") as caught:
        next(results)
    assert not caught.value.may_have_run
    with pytest.raises(ValueError, match="-1 pages"):
        next(results)
    assert next(results) == 4
    assert [(str(call), call.kind, call.args) for call in seen.calls] == [
        ("shop.price", "method", (1,)),
        ("shop.price", "method", (-1,)),
        ("shop.price", "method", (2,)),
    ]


def test_a_proxys_functions_see_a_batch_once(serve: MakeProxy) -> None:
    def dearer(call: broker.Call, next: Next) -> Any:
        calls = [(member, (args[0] + 1,), kwargs) for member, args, kwargs in call.args]
        return next(dataclasses.replace(call, args=(*calls, ("price", (), {"pages": 50}))))

    there, here = Recorder(), Recorder()
    proxy = serve([there], Press())
    proxy._broker.set("metadata", {"who": "Janet"})
    proxy._broker.set("around", [here, dearer])
    batch = broker.Batch(proxy)
    batch.price(1)
    batch.price(pages=2)
    batch.price(3)
    assert here.calls == []
    with pytest.raises(IndexError):
        batch()
    (call,) = here.calls
    assert (call.kind, call.member, str(call)) == ("batch", "", "shop")
    assert call.args == (("price", (1,), {}), ("price", (), {"pages": 2}), ("price", (3,), {}))
    batch.price(1)
    batch.price(3)
    assert list(batch()) == [4, 8, 100]
    assert [call.metadata for call in there.calls] == [{"who": "Janet"}] * 3
    assert {call.correlation_id for call in there.calls} == {here.calls[1].correlation_id}
    batch.price(1)
    assert batch(oneway=True) is None
    assert here.calls[-1].oneway


def test_the_calls_of_a_batch_have_a_form(serve: MakeProxy) -> None:
    proxy = serve([], Press())
    proxy._broker.set("around", [lambda call, next: next(dataclasses.replace(call, args=("price", 3)))])
    batch = broker.Batch(proxy)
    batch.price(1)
    with pytest.raises(
        TypeError, match=r"the calls of a batch are \(member, args, kwargs\), and next was given 'price'"
    ):
        batch()
