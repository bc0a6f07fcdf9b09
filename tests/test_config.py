"""The configuration: who is stronger, what is accepted, and what the command shows."""

from __future__ import annotations

import inspect
import ipaddress
import os
import subprocess
import sys
import threading

import pytest

from broker.config import Config, InvalidSetting, config
from broker.errors import BrokerError

ITEMS = {
    "advertise": None,
    "codec": "json",
    "codecs": ("json",),
    "connect_timeout": 10,
    "host": "localhost",
    "insecure": False,
    "tls_cert": None,
    "tls_key": None,
    "tls_ca": None,
    "token_file": None,
    "tokens": None,
    "same_user": False,
    "policy": None,
    "log_json": False,
    "local": True,
    "log_level": "WARNING",
    "handshake_timeout": 10,
    "request_timeout": 60,
    "idle_timeout": 600,
    "max_call_rate": None,
    "max_connections": 16_384,
    "max_connections_per_identity": 4_096,
    "max_streams_per_connection": 4_096,
    "max_exports_per_connection": 65_536,
    "max_names_per_identity": 100_000,
    "max_nesting": 128,
    "max_buffers": 65_536,
    "max_decoded_size": 4 * 1024**3,
    "max_unary_calls": 1_024,
    "max_wrong_tokens": 20,
    "max_calls": 65_536,
    "max_calls_per_connection": 16_384,
    "max_message_size": 1024**3,
    "max_workers": 256,
    "ns_broadcast": False,
    "ns_broadcast_port": 9091,
    "ns_host": "localhost",
    "ns_port": 9090,
    "port": 0,
    "require_expose": False,
    "retries": 0,
    "timeout": None,
    "tracebacks": True,
    "unix_socket": None,
    "wait": 0,
}


def show(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "broker.config", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# ---- who is stronger


def test_every_item_has_its_default_and_says_what_it_is_for() -> None:
    assert config.as_dict() == ITEMS
    for name, item in Config.items.items():
        assert item.doc.endswith("."), name
        assert item.source(config) == "default"


def test_the_environment_is_stronger_than_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_TIMEOUT", "2.5")
    monkeypatch.setenv("BROKER_CODECS", "json, pickle")
    monkeypatch.setenv("BROKER_HOST", "")
    assert config.timeout == 2.5
    assert config.codecs == ("json", "pickle")
    assert config.host == "localhost"
    assert Config.timeout.source(config) == "BROKER_TIMEOUT"
    assert Config.host.source(config) == "default"


def test_an_assigned_item_is_stronger_than_the_environment_until_it_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_TIMEOUT", "2.5")
    config.timeout = 0
    assert config.timeout == 0
    assert Config.timeout.source(config) == "assigned"
    config.timeout = None
    assert config.timeout is None
    config.reset()
    assert config.timeout == 2.5


def test_an_argument_is_stronger_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PORT", "4000")
    monkeypatch.setenv("BROKER_TRACEBACKS", "no")
    monkeypatch.setenv("BROKER_TIMEOUT", "3")
    monkeypatch.setenv("BROKER_HOST", "elsewhere")
    config.connect_timeout = 1
    # given, though it equals the default or is false
    assert Config.port.pick(0) == 0
    assert Config.tracebacks.pick(True) is True
    assert Config.connect_timeout.pick(10) == 10
    assert Config.timeout.pick(0) == 0
    assert Config.timeout.pick(None) is None
    # not given
    assert Config.port.pick(Config.port.unset) == 4000
    assert Config.tracebacks.pick(Config.tracebacks.unset) is False
    assert Config.connect_timeout.pick(Config.connect_timeout.unset) == 1
    assert Config.timeout.pick(Config.timeout.unset) == 3
    # None is no host, so it is not given either
    assert Config.host.pick(None) == "elsewhere"


def test_a_signature_shows_the_default_and_not_how_it_is_told_apart() -> None:
    def connect(
        *,
        timeout: float | None = Config.timeout.unset,
        connect_timeout: float = Config.connect_timeout.unset,
        codecs: tuple[str, ...] = Config.codecs.unset,
        local: bool = Config.local.unset,
    ) -> None: ...

    assert str(inspect.signature(connect)) == (
        "(*, timeout: 'float | None' = None, connect_timeout: 'float' = 10, "
        "codecs: 'tuple[str, ...]' = ('json',), local: 'bool' = True) -> 'None'"
    )


def test_an_override_ends_with_its_block_whatever_happens_in_it() -> None:
    def fails() -> None:
        with config.override(timeout=2, codec="pickle"):
            assert (config.timeout, config.codec) == (2, "pickle")
            raise RuntimeError

    config.timeout = 1
    with pytest.raises(RuntimeError):
        fails()
    assert (config.timeout, config.codec) == (1, "json")
    with pytest.raises(InvalidSetting), config.override(timeout=3, port=-1):
        pytest.fail("the block does not start")
    assert config.timeout == 1


# ---- what is accepted

GOOD: list[tuple[str, str, object]] = [
    ("host", "::1", "::1"),
    ("port", "65535", 65535),
    ("port", " 80 ", 80),
    ("unix_socket", "/tmp/a b", "/tmp/a b"),
    ("unix_socket", "none", None),
    ("advertise", "gate.example:80", "gate.example:80"),
    ("codecs", "pickle", ("pickle",)),
    ("insecure", "1", True),
    ("insecure", "TRUE", True),
    ("insecure", "yes", True),
    ("insecure", "On", True),
    ("insecure", "0", False),
    ("insecure", "off", False),
    ("insecure", "no", False),
    ("insecure", "False", False),
    ("timeout", "None", None),
    ("timeout", "0", 0),
    ("timeout", "1e-3", 0.001),
    ("max_message_size", "4_000_000", 4_000_000),
    ("log_level", "debug", "DEBUG"),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_text_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"BROKER_{name.upper()}", text)
    assert getattr(config, name) == value
    assert type(getattr(config, name)) in (type(value), float)


BAD: list[tuple[str, str]] = [
    ("port", "x"),
    ("port", "65536"),
    ("port", "-1"),
    ("port", "1.0"),
    ("timeout", "-1"),
    ("timeout", "nan"),
    ("timeout", "inf"),
    ("timeout", "soon"),
    ("connect_timeout", "none"),
    ("insecure", "maybe"),
    ("insecure", "2"),
    ("codecs", "json,,pickle"),
    ("codecs", "json pickle"),
    ("max_workers", "0"),
    ("max_message_size", "4MiB"),
    ("retries", "-1"),
    ("log_level", "loud"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_wrong_text_is_an_error_of_who_reads_the_item(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    variable = f"BROKER_{name.upper()}"
    monkeypatch.setenv(variable, text)
    item = Config.items[name]
    with pytest.raises(InvalidSetting) as caught:
        getattr(config, name)
    assert str(caught.value) == (
        f"{variable} in the environment must be {item.accepts}, not {text!r}: "
        f"correct it, or unset it for the default {item.default!r}"
    )
    assert isinstance(caught.value, BrokerError)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(InvalidSetting):
        item.pick(item.unset)
    assert item.pick(item.default) == item.default, "an argument makes the environment indifferent"


WRONG_VALUES: list[tuple[str, object]] = [
    ("host", None),
    ("host", ""),
    ("host", " localhost"),
    ("host", b"localhost"),
    ("port", "80"),
    ("port", True),
    ("port", 80.0),
    ("port", -1),
    ("unix_socket", ""),
    ("codecs", ()),
    ("codecs", None),
    ("codecs", [1]),
    ("codecs", 5),
    ("require_expose", 1),
    ("max_workers", 0),
    ("timeout", -0.1),
    ("timeout", "1"),
    ("timeout", float("inf")),
    ("timeout", threading.TIMEOUT_MAX * 2),
    ("timeout", False),
    ("log_level", 10),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_assignment_and_as_argument(name: str, value: object) -> None:
    item = Config.items[name]
    with pytest.raises(InvalidSetting) as caught:
        setattr(config, name, value)
    assert str(caught.value) == f"config.{name} must be {item.accepts}, not {value!r}"
    assert getattr(config, name) == ITEMS[name]
    if value is not None:  # as an argument, None is: not given
        with pytest.raises(InvalidSetting, match=f"^{name} must be "):
            item.pick(value)


def test_values_are_taken_in_the_forms_that_people_have_them_in() -> None:
    assert Config.codecs.pick(["json", "pickle"]) == ("json", "pickle")
    assert Config.codecs.pick("pickle") == ("pickle",)
    assert Config.host.pick(ipaddress.ip_address("::1")) == "::1"
    assert Config.log_level.pick("info") == "INFO"


def test_a_misspelt_item_is_an_error_that_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"'time_out' is no item .* did you mean 'timeout'.* advertise, codec, "):
        config.time_out = 3  # type: ignore[attr-defined]


# ---- python -m broker.config, and importing


def test_importing_is_safe_whatever_the_environment_holds() -> None:
    program = "import broker, broker.errors, broker.uri; from broker.config import config; print(config.timeout)"
    environment = os.environ | {"BROKER_PORT": "x", "BROKER_TIMEOUT": "1", "BROKER_FOO": "bar", "BROKER_": "?"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0\n", "")


def test_the_command_shows_each_item_and_where_it_came_from() -> None:
    done = show(BROKER_TIMEOUT="2.5")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][0] == "objectbroker"
    assert {"grpcio", "protobuf", "Python"} <= set(lines[1])
    assert ["timeout", "=", "2.5", "BROKER_TIMEOUT"] in lines
    assert [line[0] for line in lines if line[1:2] == ["="]] == sorted(ITEMS)
    assert "left alone" not in done.stdout


def test_the_command_names_variables_that_are_not_ours_without_their_values() -> None:
    done = show(BROKER_TOKEN="secret", BROKER_URL="amqp://")
    assert done.returncode == 0
    assert "not an item of ours, left alone: BROKER_TOKEN, BROKER_URL" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_the_command_refuses_a_wrong_value_in_one_line() -> None:
    done = show(BROKER_PORT="x")
    assert done.returncode == 1
    assert done.stderr == (
        "BROKER_PORT in the environment must be a whole number from 0 to 65535, not 'x': "
        "correct it, or unset it for the default 0\n"
    )
    assert "timeout" in done.stdout


def test_the_command_explains_itself() -> None:
    assert "A Unix socket to listen on instead of a port." in show("--verbose").stdout
    usage = show("--nonsense")
    assert usage.returncode == 2
    assert "usage: python -m broker.config" in usage.stderr
    assert "BROKER_<ITEM>" in show("--help").stdout
