"""`config`: Pyro's items, with their values from the environment."""

from __future__ import annotations

import copy
import logging
import os
import platform
from pathlib import Path
from typing import Any

import broker

PYRO_VERSION, PYRO4_VERSION = "5.17", "4.82"
_DEFAULTS: dict[str, Any] = {
    "HOST": "localhost", "NS_HOST": "localhost", "NS_PORT": 9090, "NS_BCPORT": 9091, "NS_BCHOST": None,
    "NS_AUTOCLEAN": 0.0, "NS_LOOKUP_DELAY": 0.0, "NATHOST": None, "NATPORT": 0, "COMPRESSION": False,
    "SERVERTYPE": "thread", "COMMTIMEOUT": 0.0, "POLLTIMEOUT": 2.0, "MAX_RETRIES": 0, "SOCK_REUSE": True,
    "SOCK_NODELAY": False, "DETAILED_TRACEBACK": False, "THREADPOOL_SIZE": 80, "THREADPOOL_SIZE_MIN": 4,
    "MAX_MESSAGE_SIZE": 1024 * 1024 * 1024, "BROADCAST_ADDRS": ["<broadcast>", "0.0.0.0"], "PREFER_IP_VERSION": 0,
    "SERIALIZER": "serpent", "SERPENT_BYTES_REPR": False, "LOGWIRE": False, "ITER_STREAMING": True,
    "ITER_STREAM_LIFETIME": 0.0, "ITER_STREAM_LINGER": 30.0, "LOGFILE": "", "LOGLEVEL": "", "SSL": False,
    "SSL_SERVERCERT": "", "SSL_SERVERKEY": "", "SSL_SERVERKEYPASSWD": "", "SSL_REQUIRECLIENTCERT": False,
    "SSL_CLIENTCERT": "", "SSL_CLIENTKEY": "", "SSL_CLIENTKEYPASSWD": "", "SSL_CACERTS": "",
    # of Pyro4 alone
    "SERIALIZERS_ACCEPTED": {"serpent", "marshal", "json"}, "PICKLE_PROTOCOL_VERSION": 5, "DILL_PROTOCOL_VERSION": 4,
    "AUTOPROXY": True, "METADATA": True, "REQUIRE_EXPOSE": True, "ONEWAY_THREADED": True, "FLAME_ENABLED": False,
    "JSON_MODULE": "json", "USE_MSG_WAITALL": True,
}  # fmt: skip
_WORDS = {"0": False, "off": False, "no": False, "false": False, "1": True, "on": True, "yes": True, "true": True}


class Configuration:
    """The items, as attributes in upper case. An unknown one is AttributeError; unknown PYRO_* variables do no harm."""

    __slots__: tuple[str, ...] = tuple(_DEFAULTS)

    def __init__(self) -> None:
        self.reset()

    def reset(self, use_environment: bool = True) -> None:
        """Back to the defaults, and to what the environment says. Raises ValueError for what an item cannot be."""
        for item, value in _DEFAULTS.items():
            text = os.environ.get(f"PYRO_{item}") if use_environment else None
            setattr(self, item, copy.copy(value) if text is None else _parsed(text, value))

    def copy(self) -> Configuration:
        return copy.deepcopy(self)

    def as_dict(self) -> dict[str, Any]:
        return {item: getattr(self, item) for item in self.__slots__}

    asDict = as_dict

    def dump(self) -> str:
        """What the check-config tool prints."""
        python = f"{platform.python_implementation()} {platform.python_version()} ({platform.system()}, {os.name})"
        return (
            f"Pyro version: {PYRO_VERSION} (broker {broker.__version__})\nLoaded from: {Path(__file__).parent}\n"
            f"Python version: {python}\nProtocol version: none (gRPC)\n"
            "Currently active global configuration settings:\n"
        ) + "\n".join(f"{item} = {value}" for item, value in sorted(self.as_dict().items()))


def _parsed(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in _WORDS:
            raise ValueError(f"invalid boolean value: {text}")
        return _WORDS[text.lower()]
    if isinstance(default, list | set):
        return type(default)(part.strip() for part in text.split(",") if part.strip())
    return text if default is None else type(default)(text)


config: Any = Configuration()


def dump() -> None:
    print(config.dump())


main = dump


def credentials(side: str) -> broker.Credentials | None:
    """What the SSL items say of a SERVER or a CLIENT; None without TLS."""
    if not config.SSL:
        return None
    cert, key = getattr(config, f"SSL_{side}CERT"), getattr(config, f"SSL_{side}KEY")
    if side == "SERVER" and not Path(cert).is_file():
        raise OSError(f"server cert file not found: {cert!r}")
    believed = config.SSL_CACERTS if side == "CLIENT" or config.SSL_REQUIRECLIENTCERT else None
    return broker.Credentials(cert=cert or None, key=key or cert or None, ca=believed or None)


if config.LOGLEVEL:  # asked for in the environment: the broker's log, in Pyro's form
    logging.basicConfig(
        level=config.LOGLEVEL, filename=None if config.LOGFILE == "{stderr}" else config.LOGFILE or None,
        format="[%(asctime)s.%(msecs)03d,%(name)s,%(levelname)s] %(message)s", datefmt="%Y-%m-%d %H:%M:%S",
    )  # fmt: skip
