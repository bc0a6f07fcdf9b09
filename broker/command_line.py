"""What the command line programs have in common: who they are to others, and their log.

What an option says is assigned to the configuration of the process, which is the program's own.
"""

from __future__ import annotations

import argparse
import json
import logging
from datetime import UTC, datetime

from broker.config import config

__all__ = ["add_credentials", "add_serving", "log_to_stderr", "port", "take"]

_AS = {
    "cert": "tls_cert",
    "key": "tls_key",
    "ca": "tls_ca",
    "token_file": "token_file",
    "tokens": "tokens",
    "same_user": "same_user",
    "policy": "policy",
}
"""The options, and the items of the configuration that they are assigned to."""


def port(text: str) -> int:
    """A TCP port from 0 to 65535."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def add_credentials(parser: argparse.ArgumentParser, default: object = None) -> None:
    """Adds the options that say what a program shows of itself, and what it believes."""
    options = parser.add_argument_group("who it is to others")
    for name, what in (
        ("--cert", "its certificate, in PEM (BROKER_TLS_CERT)"),
        ("--key", "the private key of that (BROKER_TLS_KEY)"),
        ("--ca", "the authorities whose certificates are believed (BROKER_TLS_CA)"),
        ("--token-file", "holds the token to show (BROKER_TOKEN_FILE)"),
    ):
        options.add_argument(name, metavar="FILE", default=default, help=what)
    options.add_argument(
        "--same-user", action="store_true", default=default, help="prove to be the same user (BROKER_SAME_USER)"
    )


def add_serving(parser: argparse.ArgumentParser) -> None:
    """Adds the options of programs that serve: whom they let in, and who may what."""
    options = parser.add_argument_group("who may call")
    options.add_argument("--tokens", metavar="FILE", help="the tokens that are accepted (BROKER_TOKENS)")
    options.add_argument("--policy", metavar="FILE", help="who may call what (BROKER_POLICY)")


def take(arguments: argparse.Namespace) -> None:
    """Has what the options say hold for this process. Raises InvalidSetting."""
    for option, item in _AS.items():
        value = getattr(arguments, option, None)
        if value:
            setattr(config, item, value)


def log_to_stderr() -> None:
    """Logs from the level `config.log_level` on, one line a record; as JSON if `config.log_json` says so.

    For programs alone: a library leaves that to them. Raises InvalidSetting.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if config.log_json else OneLine())
    logging.basicConfig(level=config.log_level, handlers=[handler])


class OneLine(logging.Formatter):
    """A line that says when, how serious, and what."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


_OF_A_REFUSAL = ("identity", "address", "object", "member", "reason")


class JsonLines(logging.Formatter):
    """A line with a JSON object: time (UTC), level, logger and message; of a refusal also its parts."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: getattr(record, name) for name in _OF_A_REFUSAL if hasattr(record, name)}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)
