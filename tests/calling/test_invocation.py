"""How often a call is sent again, without sockets."""

from __future__ import annotations

import broker
from broker._pb.broker_pb2 import Call
from broker.calling.invocation import MOST_AGAIN, Invocation
from broker.codecs import Encoded
from broker.connection.calls import Outcome
from broker.connection.refusals import Reason, Refused

NOT_EXECUTED = Outcome(lost="the daemon is shutting down")
MAY_HAVE_RUN = Outcome(lost="the connection was lost", may_have_run=True)


def call(uri: str = "BROKER:ledger@localhost:1", **options: int) -> Invocation:
    remote = broker.Proxy(uri, **options)._broker._remote  # type: ignore[arg-type]
    return Invocation(remote, "enter", Encoded("json", b"[[],{}]"), Call.METHOD)


def test_what_was_surely_not_executed_is_sent_again_though_daemons_end_one_after_the_other() -> None:
    invocation = call()
    assert [invocation.is_to_be_repeated(NOT_EXECUTED) for _ in range(MOST_AGAIN)] == [True] * MOST_AGAIN
    assert not invocation.is_to_be_repeated(NOT_EXECUTED)  # and not for ever


def test_what_may_have_run_is_sent_again_as_often_as_retries_say() -> None:
    assert not call().is_to_be_repeated(MAY_HAVE_RUN)
    invocation = call(retries=2)
    outcomes = [MAY_HAVE_RUN, NOT_EXECUTED, MAY_HAVE_RUN, MAY_HAVE_RUN]
    assert [invocation.is_to_be_repeated(outcome) for outcome in outcomes] == [True, True, True, False]


def test_an_object_that_is_not_there_is_looked_for_once_more_where_a_name_leads() -> None:
    missing = Outcome(refused=Refused(Reason.OBJECT_NOT_FOUND, "no such object"))
    assert not call().is_to_be_repeated(missing)
    invocation = call("BROKERNAME:ledger")
    places = iter([True, True])
    invocation.remote.forget_place = lambda: next(places)  # type: ignore[method-assign]
    assert invocation.is_to_be_repeated(missing)
    assert not invocation.is_to_be_repeated(missing)


def test_a_result_is_the_end() -> None:
    assert not call(retries=3).is_to_be_repeated(Outcome(Encoded("json", b"1")))
