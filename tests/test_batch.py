"""Batches over real connections."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import broker
from broker import errors
from broker.connection.calls import MAX_BATCH

SOON = 40.0


class Account:
    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.entered = threading.Event()
        self.leave = threading.Event()

    def add(self, amount: float, *, note: str = "") -> int:
        self.entries.append((amount, note) if note else amount)
        return len(self.entries)

    def list_entries(self) -> list[Any]:
        return self.entries

    def withdraw(self, amount: float) -> None:
        raise ValueError(f"there are no {amount}")

    def double(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return values * 2

    def wait(self) -> None:
        self.entered.set()
        assert self.leave.wait(SOON)

    def until_cancelled(self) -> None:
        self.entered.set()
        assert broker.current_context.wait_cancelled(SOON)

    def call(self, other: Any, *amounts: int) -> list[Any]:
        batch = broker.Batch(other)
        for amount in amounts:
            batch.add(amount)
        return list(batch())

    def size(self, data: bytes) -> int:
        return len(data)

    async def later(self, value: object) -> object:
        return value

    @property
    def balance(self) -> float:
        return float(sum(self.entries))

    def __getitem__(self, index: int) -> Any:
        return self.entries[index]


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon(codecs=("json", "pickle")) as daemon:
        yield daemon


@pytest.fixture
def account(daemon: broker.Daemon) -> Account:
    account = Account()
    daemon.register(account, "account")
    return account


@pytest.fixture(params=["within the process", "over a socket"])
def proxy(daemon: broker.Daemon, account: Account, request: pytest.FixtureRequest) -> Any:
    return broker.Proxy(daemon.uri_for(account), local=request.param == "within the process")


def outcomes(results: Any) -> list[Any]:
    """Results, and the exceptions where calls failed."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


def until_nothing_is_under_way(daemon: broker.Daemon) -> None:
    give_up = time.monotonic() + SOON
    while daemon.stats().under_way:
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_calls_are_made_when_the_batch_is_called(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy)
    assert batch.add(5) is None
    batch.add(7, note="rent")
    batch.list_entries()
    assert (len(batch), account.entries) == (3, [])
    assert list(batch()) == [1, 2, [5, (7, "rent")]]
    assert len(batch) == 0
    assert list(batch()) == []
    batch.list_entries()
    assert list(batch()) == [[5, (7, "rent")]]


def test_one_message_each_way(proxy: Any, daemon: broker.Daemon) -> None:
    proxy.list_entries()
    before = daemon.stats().calls
    batch = broker.Batch(proxy)
    for amount in range(500):
        batch.add(amount)
    assert list(batch()) == list(range(1, 501))
    after = daemon.stats().calls
    assert after["batch"] == 1
    assert after["method"] - before["method"] == 500


def test_an_exception_comes_at_its_place_with_its_traceback(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy)
    batch.add(1)
    batch.withdraw(2)
    batch.add(3)
    results = batch()
    assert next(results) == 1
    with pytest.raises(ValueError, match="there are no 2") as caught:
        next(results)
    assert "in withdraw" in errors.get_remote_traceback(caught.value)
    assert "broker/dispatch" not in errors.get_remote_traceback(caught.value)
    assert list(results) == []
    assert account.entries == [1]


def test_the_rest_may_be_carried_out_all_the_same(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy, stop_on_error=False)
    batch.withdraw(1)
    batch.missing(2)
    batch.add()
    batch.add(4)
    first, second, third, last = outcomes(batch())
    assert [type(error) for error in (first, second, third)] == [ValueError, AttributeError, TypeError]
    assert "has no remote member 'missing'" in str(second)
    assert "missing 1 required positional argument: 'amount'" in str(third)
    assert last == 1


def test_what_cannot_be_encoded_is_named_and_nothing_is_sent(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy)
    batch.add(1)
    batch.add([1, {"a": threading.Lock()}])
    with pytest.raises(
        errors.CodecError, match=r"^call 1 of the batch, add\(\): args\[0\]\[1\]\['a'\]: an instance of"
    ):
        batch()
    batch.add(1, note=threading.Lock())
    with pytest.raises(errors.CodecError, match=r"^call 0 of the batch, add\(\): kwargs\['note'\]: an instance of"):
        batch()
    broker.Batch(proxy)
    assert account.entries == []
    batch.add(2)
    assert list(batch()) == [1]


def test_attributes_and_items_are_refused_at_once(proxy: Any) -> None:
    batch: Any = broker.Batch(proxy)
    with pytest.raises(AttributeError, match=r"the property 'balance' of 'account' at .* has no place in a batch"):
        batch.balance  # noqa: B018
    with pytest.raises(AttributeError, match="'balance' cannot be set"):
        batch.balance = 3
    with pytest.raises(AttributeError, match="such names are never remote"):
        batch._private()
    with pytest.raises(TypeError, match="items have no place in a batch"):
        batch[0]
    with pytest.raises(TypeError, match="items have no place in a batch"):
        batch[0] = 1
    with pytest.raises(TypeError, match=r"for result in batch\(\)"):
        list(batch)
    with pytest.raises(TypeError, match="make another of the proxy"):
        copy.copy(batch)
    with pytest.raises(TypeError, match="a batch is made of a proxy"):
        broker.Batch(Account())
    assert len(batch) == 0
    assert repr(batch).startswith("<Batch of 0 calls of 'account' at ")


def test_nobody_waits_for_a_oneway_batch(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy, stop_on_error=False)
    batch.wait()
    batch.withdraw(1)
    batch.add(2)
    assert batch(oneway=True) is None
    assert account.entered.wait(SOON)
    assert account.entries == []
    account.leave.set()
    assert proxy.list_entries() == [2]  # a later call of this thread starts when the batch is over
    assert batch(oneway=True) is None


def test_a_oneway_batch_sends_what_the_arguments_were(proxy: Any, account: Account) -> None:
    data = bytearray(b"before")
    batch = broker.Batch(proxy)
    batch.wait()
    batch.add(data)
    batch(oneway=True)
    data[:] = b"after!"
    account.leave.set()
    assert proxy.list_entries() == [bytearray(b"before")]


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_arrays_go_both_ways(daemon: broker.Daemon, account: Account, codec: str) -> None:
    batch = broker.Batch(broker.Proxy(daemon.uri_for(account), codec=codec))
    small, big = np.arange(3), np.ones(300_000)
    batch.double(small)
    batch.add(1)
    batch.double(big)
    first, count, second = batch()
    assert (first == [0, 2, 4]).all()
    assert count == 1
    assert second.shape == big.shape
    assert (second == 2).all()


def test_a_session_has_one_instance_for_single_calls_and_batches(daemon: broker.Daemon) -> None:
    uri = daemon.register(Account, "accounts")
    with broker.Proxy(uri) as mine, broker.Proxy(uri) as other:
        mine.add(1)
        batch = broker.Batch(mine)
        batch.add(2)
        batch.list_entries()
        assert list(batch()) == [2, [1, 2]]
        assert mine.list_entries() == [1, 2]
        first_use = broker.Batch(other)
        first_use.add(9)
        assert list(first_use()) == [1]
        assert other.list_entries() == [9]


def test_one_deadline_for_all(daemon: broker.Daemon, account: Account) -> None:
    with broker.Proxy(daemon.uri_for(account)) as proxy:
        proxy.list_entries()
        proxy._broker.set("timeout", 0.5)
        batch = broker.Batch(proxy)
        batch.add(1)
        batch.until_cancelled()
        batch.add(2)
        with pytest.raises(errors.CallTimeout, match=r"a batch of 3 calls of 'account' at .* of 0.5 s") as caught:
            batch()
        assert caught.value.may_have_run
    until_nothing_is_under_way(daemon)
    assert account.entries == [1]


def test_a_batch_inside_a_call_of_a_batch(proxy: Any, account: Account, daemon: broker.Daemon) -> None:
    other = Account()
    batch = broker.Batch(proxy)
    batch.call(broker.Proxy(daemon.register(other)), 1, 2, 3)
    batch.call(proxy, 4)
    assert list(batch()) == [[1, 2, 3], [1]]
    assert (other.entries, account.entries) == ([1, 2, 3], [4])


def test_values_beyond_one_message(proxy: Any) -> None:
    batch = broker.Batch(proxy)
    for size in (10, 3 << 20, 0, 5 << 20):
        batch.size(bytes(size))
    assert list(batch()) == [10, 3 << 20, 0, 5 << 20]
    batch = broker.Batch(proxy)
    for _ in range(MAX_BATCH):
        batch.later(1)
    assert len(batch) == MAX_BATCH
    batch.add(1)
    with pytest.raises(errors.BrokerError, match=f"holds at most {MAX_BATCH} calls, and this one has {MAX_BATCH + 1}"):
        batch()


def test_an_object_that_is_not_there(daemon: broker.Daemon, account: Account, proxy: Any) -> None:
    batch = broker.Batch(proxy)
    batch.add(1)
    batch.add(2)
    daemon.unregister(account)
    with pytest.raises(errors.ObjectNotFound, match="there is no object 'account'"):
        batch()


def test_who_may_not_is_refused_at_the_place(account: Account) -> None:
    with broker.Daemon(authorize=lambda client, object_id, member: member != "withdraw") as daemon:
        batch = broker.Batch(broker.Proxy(daemon.register(account, "account")), stop_on_error=False)
        batch.withdraw(1)
        batch.add(1)
        denied, count = outcomes(batch())
    assert isinstance(denied, errors.AccessDenied)
    assert count == 1


def test_a_lost_connection_loses_the_whole_batch(daemon: broker.Daemon, account: Account, proxy: Any) -> None:
    batch = broker.Batch(proxy)
    batch.wait()
    batch.add(1)
    failed: list[BaseException] = []

    def call() -> None:
        try:
            batch()
        except errors.BrokerError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert account.entered.wait(SOON)
    proxy._broker._remote.session.connection.engine.lost("cut")
    thread.join(SOON)
    account.leave.set()
    assert [type(error) for error in failed] == [errors.ConnectionClosedError]
    assert failed[0].may_have_run  # type: ignore[attr-defined]


def test_a_daemon_that_takes_no_batches_is_said_so(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.list_entries()
    proxy._broker._remote.session.connection.engine.peer.ClearField("features")
    batch = broker.Batch(proxy)
    batch.add(1)
    with pytest.raises(errors.ProtocolError, match="runs a version of objectbroker without batches"):
        batch()


def test_a_result_of_a_type_that_only_the_server_knows_fails_where_it_is_read(daemon: broker.Daemon) -> None:
    class Bad:
        """What its registered function does not take back."""

    def refuse(fields: dict[str, Any]) -> Bad:
        raise RuntimeError("not today")

    broker.register_type(Bad, name="test_batch.Bad", to_dict=lambda bad: {}, from_dict=refuse)

    class Maker:
        def make(self) -> Bad:
            return Bad()

        def count(self) -> int:
            return 1

    batch = broker.Batch(broker.Proxy(daemon.register(Maker())))
    batch.count()
    batch.make()
    batch.count()
    first, error, last = outcomes(batch())
    assert (first, last) == (1, 1)
    assert isinstance(error, errors.CodecError)
    assert str(error).startswith("call 1 of the batch: result")
    assert "not today" in str(error)


def test_threads_have_their_batches_on_one_proxy(proxy: Any, account: Account) -> None:
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        batch = broker.Batch(proxy)
        for _ in range(20):
            for _ in range(10):
                batch.add(number)
            results.setdefault(number, []).extend(batch())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(count for counts in results.values() for count in counts) == list(range(1, 801))
    assert all(counts == sorted(counts) for counts in results.values())


# ---- futures


def test_a_future_for_the_results(proxy: Any, account: Account) -> None:
    batch = broker.Batch(proxy)
    batch.wait()
    batch.add(1)
    batch.withdraw(2)
    pending = batch(future=True)
    assert account.entered.wait(SOON)
    assert not pending.done()
    assert repr(pending).startswith("<future of a batch of 3 calls of 'account' at ")
    with pytest.raises(TimeoutError, match=r"a batch of 3 calls of 'account' at .* has no result yet"):
        pending.result(timeout=0)
    account.leave.set()
    first, count, error = outcomes(pending.result(SOON))
    assert (first, count) == (None, 1)
    assert str(error) == "there are no 2"
    assert list(batch(future=True).result()) == []
    with pytest.raises(TypeError, match="either oneway or with a future"):
        batch(oneway=True, future=True)  # type: ignore[call-overload]


def test_batches_of_one_thread_are_on_their_way_together_and_start_in_order(proxy: Any) -> None:
    pending = []
    batch = broker.Batch(proxy)
    for number in range(20):
        for _ in range(50):
            batch.add(number)
        pending.append(batch(future=True))
    counts = [count for each in pending for count in each.result(SOON)]
    assert sorted(counts) == list(range(1, 1001))
    assert list(proxy.list_entries()) is not None


def test_cancelling_the_future_stops_the_calls_that_were_not_made(
    proxy: Any, account: Account, daemon: broker.Daemon
) -> None:
    batch = broker.Batch(proxy)
    batch.until_cancelled()
    batch.add(1)
    pending = batch(future=True)
    assert account.entered.wait(SOON)
    assert pending.cancel()
    until_nothing_is_under_way(daemon)
    assert account.entries == []


def test_a_future_whose_arguments_cannot_be_encoded(proxy: Any) -> None:
    batch = broker.Batch(proxy)
    batch.add(threading.Lock())
    with pytest.raises(errors.CodecError, match=r"call 0 of the batch, add\(\): args\[0\]"):
        batch(future=True)


# ---- on an event loop


async def all_of_a_batch(proxy: broker.AsyncProxy, account: Account) -> None:
    batch = broker.Batch(proxy, stop_on_error=False)
    batch.add(1)
    batch.withdraw(5)
    batch.balance()  # nothing is known of the object before the first call: the daemon says that it is a property
    batch.later([2])
    assert account.entries == []
    first, error, no_method, last = outcomes(await batch())
    assert (first, last) == (1, [2])
    assert isinstance(error, ValueError)
    assert isinstance(no_method, TypeError)
    with pytest.raises(AttributeError, match="the property 'balance'"):
        broker.Batch(proxy).balance  # noqa: B018
    assert list(await batch()) == []
    await batch(oneway=True)
    batch.add(2)
    await batch(oneway=True)
    assert await proxy.list_entries() == [1, 2]
    batch.add(threading.Lock())
    with pytest.raises(errors.CodecError, match=r"call 0 of the batch, add\(\)"):
        await batch()
    batch.add(3)
    assert list(await asyncio.to_thread(batch(future=True).result)) == [3]


def test_batches_of_an_async_proxy_are_awaited(daemon: broker.Daemon, account: Account) -> None:
    async def main() -> None:
        async with broker.AsyncProxy(daemon.uri_for(account)) as proxy:
            await all_of_a_batch(proxy, account)

    asyncio.run(main())


def test_many_batches_at_once_on_one_loop(daemon: broker.Daemon, account: Account) -> None:
    async def use(proxy: broker.AsyncProxy, number: int) -> list[int]:
        batch = broker.Batch(proxy)
        for _ in range(10):
            batch.add(number)
        return list(await batch())

    async def main() -> list[list[int]]:
        async with broker.AsyncProxy(daemon.uri_for(account)) as proxy:
            return await asyncio.gather(*(use(proxy, number) for number in range(50)))

    counts = asyncio.run(main())
    assert sorted(count for each in counts for count in each) == list(range(1, 501))


def test_cancelling_a_task_cancels_its_batch(daemon: broker.Daemon, account: Account) -> None:
    async def main() -> None:
        async with broker.AsyncProxy(daemon.uri_for(account)) as proxy:
            batch = broker.Batch(proxy)
            batch.until_cancelled()
            batch.add(1)
            task = asyncio.create_task(batch())
            await asyncio.to_thread(account.entered.wait, SOON)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    until_nothing_is_under_way(daemon)
    assert account.entries == []


# ---- functions around a batch


def test_functions_see_the_batch_as_one_call(daemon: broker.Daemon, account: Account) -> None:
    seen: list[broker.Call] = []

    def twice(call: broker.Call, rest: Callable[[broker.Call], Any]) -> Any:
        seen.append(call)
        if call.kind != "batch":
            return rest(call)
        return rest(dataclasses.replace(call, args=call.args + call.args))

    with broker.Proxy(daemon.uri_for(account), around=[twice]) as proxy:
        batch = broker.Batch(proxy)
        batch.add(1)
        batch.add(2, note="b")
        assert list(batch()) == [1, 2, 3, 4]
        batch.add(3)
        assert list(batch(future=True).result(SOON)) == [5, 6]
        batch.add(4)
        assert batch(oneway=True) is None
        assert len(proxy.list_entries()) == 8
    kinds = [(call.member, call.kind, call.args, call.kwargs, call.oneway) for call in seen]
    options = {"stop_on_error": True}
    assert kinds == [
        ("", "batch", (("add", (1,), {}), ("add", (2,), {"note": "b"})), options, False),
        ("", "batch", (("add", (3,), {}),), options, False),
        ("", "batch", (("add", (4,), {}),), options, True),
        ("list_entries", "method", (), {}, False),
    ]


@pytest.mark.parametrize("args", [(), (1,), (("add", 1, {}),), (("add", (1,)),), ((1, (), {}),)])
def test_a_function_that_passes_on_what_is_no_batch(
    daemon: broker.Daemon, account: Account, args: tuple[Any, ...]
) -> None:
    def spoil(call: broker.Call, rest: Callable[[broker.Call], Any]) -> Any:
        return rest(dataclasses.replace(call, args=args))

    batch = broker.Batch(broker.Proxy(daemon.uri_for(account), around=[spoil]))
    batch.add(1)
    with pytest.raises(TypeError, match="the calls of a batch are"):
        batch()
    assert account.entries == []


def test_functions_around_an_awaited_batch(daemon: broker.Daemon, account: Account) -> None:
    async def count(call: broker.Call, rest: Callable[[broker.Call], Any]) -> Any:
        results = await rest(call)
        return (len(call.args), list(results))

    async def main() -> Any:
        async with broker.AsyncProxy(daemon.uri_for(account), around=[count]) as proxy:
            batch = broker.Batch(proxy)
            batch.add(1)
            batch.add(2)
            first = await batch()
            batch.add(3)
            return first, await asyncio.wrap_future(batch(future=True))

    assert asyncio.run(main()) == ((2, [1, 2]), (1, [3]))


# ---- beside other features


def test_exported_objects_go_both_ways_in_a_batch(daemon: broker.Daemon) -> None:
    class Relay:
        def keep(self, function: Any) -> Any:
            self.function = function
            return function

        def use(self, *args: Any) -> Any:
            return self.function(*args)

        def batch(self, numbers: Any) -> list[Any]:
            batch = broker.Batch(numbers)
            batch.put(1)
            batch.put(2)
            batch.get()
            return list(batch())

    class Numbers:
        def __init__(self) -> None:
            self.numbers: list[int] = []

        def put(self, number: int) -> None:
            self.numbers.append(number)

        def get(self) -> list[int]:
            return self.numbers

    for codec in ("json", "pickle"):
        with broker.Proxy(daemon.register(Relay()), codec=codec) as proxy:
            kept: list[int] = []
            function = broker.export(kept.append)
            numbers = Numbers()
            batch = broker.Batch(proxy)
            batch.keep(function)
            batch.use(3)
            batch.batch(broker.export(numbers))
            came_back, used, counted = batch()
            assert (used, kept) == (None, [3])
            assert came_back == kept.append
            assert counted == [None, None, [1, 2]]


def test_an_iterator_that_is_passed_is_taken_by_its_call(daemon: broker.Daemon) -> None:
    class Adder:
        def add_up(self, numbers: Any) -> int:
            return sum(numbers)

    batch = broker.Batch(broker.Proxy(daemon.register(Adder())))
    batch.add_up(iter(range(5)))
    batch.add_up(number for number in (1, 2))
    assert list(batch()) == [10, 3]


def test_a_batch_over_an_object_of_a_type(daemon: broker.Daemon, account: Account) -> None:
    typed = broker.connect(daemon.uri_for(account), Account)
    batch = broker.Batch(typed)
    batch.add(1)
    batch.list_entries()
    assert list(batch()) == [1, [1]]
