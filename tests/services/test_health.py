"""Health as load balancers and orchestrators ask for it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # type: ignore[import-untyped]

import broker
from broker.registry.server import start_ns
from broker.services import health

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class Lamp:
    def __init__(self) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def shine(self) -> None:
        self.inside.set()
        self.go_on.wait(20)


class Watch:
    """A client that watches, whose statuses a test takes one after another."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        self.call: Any = watch(HealthCheckRequest(service=name), timeout=20)

    def next(self) -> int:
        status: int = next(self.call).status
        return status


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


@pytest.fixture
def channel(daemon: broker.Daemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
        yield channel


@pytest.fixture
def check(channel: grpc.Channel) -> Callable[[str], int]:
    method = channel.unary_unary(
        "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )

    def check(name: str) -> int:
        status: int = method(HealthCheckRequest(service=name), timeout=20).status
        return status

    return check


def _code(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return _code_of(error.value)


def _code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = call.code()
    return code


def test_the_daemon_and_its_services_and_objects(daemon: broker.Daemon, check: Callable[[str], int]) -> None:
    daemon.register(Lamp(), "lamp")
    assert {check(name) for name in ("", "broker.v1.ObjectBroker", "lamp")} == {SERVING}
    daemon.unregister("lamp")
    with pytest.raises(grpc.RpcError) as caught:
        check("lamp")
    assert _code(caught) == grpc.StatusCode.NOT_FOUND


def test_a_daemon_that_has_not_started_takes_no_calls(check: Callable[[str], int]) -> None:
    daemon = broker.Daemon()
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}") as channel:
        watch = Watch(channel, "")
        assert watch.next() == NOT_SERVING
        daemon.start()
        assert watch.next() == SERVING
        daemon.shutdown()


def test_objects_come_and_go(daemon: broker.Daemon, channel: grpc.Channel) -> None:
    watch = Watch(channel, "lamp")
    assert watch.next() == UNKNOWN
    daemon.register(Lamp(), "lamp")
    assert watch.next() == SERVING
    daemon.unregister("lamp")
    assert watch.next() == UNKNOWN


def test_published_names_come_and_go(daemon: broker.Daemon, channel: grpc.Channel) -> None:
    with start_ns(port=0) as names:
        broker.config.ns_host, broker.config.ns_port = names.address
        watch = Watch(channel, "example.lamp")
        assert watch.next() == UNKNOWN
        lamp = Lamp()
        daemon.publish(lamp, "example.lamp")
        assert watch.next() == SERVING
        broker.locate_ns().remove("example.lamp")
        assert watch.next() == UNKNOWN


def test_not_serving_while_draining(daemon: broker.Daemon, channel: grpc.Channel, check: Callable[[str], int]) -> None:
    lamp = Lamp()
    daemon.register(lamp, "lamp")
    watches = [Watch(channel, name) for name in ("", "lamp")]
    assert [watch.next() for watch in watches] == [SERVING, SERVING]
    with broker.Proxy(daemon.uri_for("lamp")) as proxy:
        shining = proxy.shine.future()
        assert lamp.inside.wait(20)
        ending = threading.Thread(target=daemon.shutdown, kwargs={"grace": 20})
        ending.start()
        assert [watch.next() for watch in watches] == [NOT_SERVING, NOT_SERVING]
        assert check("lamp") == NOT_SERVING
        lamp.go_on.set()
        shining.result(20)
    for watch in watches:
        with pytest.raises(grpc.RpcError) as caught:
            watch.next()
        assert _code(caught) == grpc.StatusCode.UNAVAILABLE
    ending.join(20)
    assert not ending.is_alive()


def test_a_client_that_asks_for_health_itself(daemon: broker.Daemon) -> None:
    """grpc's own health checking: no call goes where an object is not, or not any more."""
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "lamp"}}
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(f"127.0.0.1:{daemon.address[1]}", options) as channel:
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        channel.subscribe(states.put, try_to_connect=True)
        _until(states, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        daemon.register(Lamp(), "lamp")
        _until(states, grpc.ChannelConnectivity.READY)
        daemon.unregister("lamp")
        _until(states, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


def _until(states: queue.SimpleQueue[grpc.ChannelConnectivity], wanted: grpc.ChannelConnectivity) -> None:
    while states.get(timeout=20) != wanted:
        pass


def test_who_leaves_makes_room_for_another(
    daemon: broker.Daemon, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_WATCHERS", 1)
    first = Watch(channel, "")
    assert first.next() == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        Watch(channel, "").next()
    assert _code(caught) == grpc.StatusCode.RESOURCE_EXHAUSTED
    first.call.cancel()
    while _is_refused(Watch(channel, "")):
        pass  # the server has not noticed yet; the time of the test ends this


def _is_refused(watch: Watch) -> bool:
    try:
        assert watch.next() == SERVING
    except grpc.RpcError:
        assert _code_of(watch.call) == grpc.StatusCode.RESOURCE_EXHAUSTED
        return True
    return False
