"""How we open gRPC channels, and which numeric addresses a host has: the options of gRPC in one place.

Every channel of ours, of the call engine and of the name server's clients, comes from `open_channel`. The figures
were measured on grpcio 1.85.1.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Sequence

import grpc

from broker.security import Credentials, InvalidCredentials, audience_of, bearer_metadata
from broker.uri import join_host_port

__all__ = ["ChannelSecurity", "addresses_of", "is_loopback", "open_channel", "server_options", "shown_by"]

_KEEPALIVE_MS = 10_000
_PING_TIMEOUT_MS = 2_000  # with the keepalive above, a stopped peer is found after 12 s; without, after 70 s
# In spite of its option's name no pause but how long one attempt may take, TLS and SETTINGS included: with 100 ms a
# server 300 ms away is never reached, and a refused attempt is repeated no later with 10 s.
_CONNECT_ATTEMPT_MS = 10_000
_UNLIMITED = -1
_MOST = 2**31 - 1  # as the options of gRPC have numbers; as a time, for ever
_STREAMS = 4_096  # of one HTTP/2 connection; a client of gRPC waits with further calls

Options = Sequence[tuple[str, int | str]]
ChannelSecurity = grpc.ChannelCredentials | Credentials
"""What a channel is opened with: credentials of ours, or gRPC's own."""


def open_channel(
    host: str,
    port: int,
    *,
    unix_socket: str | None = None,
    credentials: ChannelSecurity | None = None,
    max_message_size: int | None = None,
) -> grpc.Channel:
    """A channel to `host:port`, or to the Unix socket if one is given; it connects with the first call.

    Without credentials it is not encrypted. `max_message_size` bounds one received message, in bytes; None: no bound.
    The channel shares no connection with any other, so that a child process never meets one of its parent.
    """
    target = f"unix:{unix_socket}" if unix_socket is not None else f"dns:///{join_host_port(host, port)}"
    options = _client_options(max_message_size)
    name = "localhost" if unix_socket is not None else None  # a certificate names hosts, and no paths
    if isinstance(credentials, Credentials):
        name = credentials.server_name or name
        credentials = credentials.for_channel()
    if credentials is None:
        return grpc.insecure_channel(target, options)
    if name is not None:
        options = [*options, ("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(target, credentials, options)


def shown_by(
    credentials: ChannelSecurity | None, host: str, port: int, *, unix_socket: str | None = None
) -> tuple[tuple[str, str], ...]:
    """The metadata that show who calls, for every call on a channel to that place.

    Raises InvalidCredentials for a token that would travel in the clear to another machine.
    """
    if not isinstance(credentials, Credentials):
        return ()
    token = credentials.shown_token(audience_of(port, unix_socket))
    if token is not None and not credentials.encrypts and unix_socket is None and not is_loopback(host):
        raise InvalidCredentials(
            f"a token would travel to {join_host_port(host, port)} for everybody to read: give Credentials the `ca` "
            "that the certificate there comes from"
        )
    return bearer_metadata(token)


def _client_options(max_message_size: int | None) -> Options:
    return [
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),  # a proxy of the environment breaks calls on loopback
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),  # the defaults take seconds after an outage
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_ATTEMPT_MS),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        *_message_options(max_message_size),
        ("broker.process", os.getpid()),  # makes the arguments of a child's channel differ from its parent's
    ]


def server_options(
    max_message_size: int | None = None,
    *,
    handshake_timeout: float = 10.0,
    idle_timeout: float | None = None,
    max_connections: int | None = None,
) -> Options:
    """The options of a gRPC server that our channels talk to. Two servers never share a port.

    `max_connections` counts what has connected, half-open connections included: who comes then is cut off in silence.
    """
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", _milliseconds(handshake_timeout)),
        ("grpc.max_connection_idle_ms", _milliseconds(math.inf if idle_timeout is None else idle_timeout)),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),  # else GOAWAY too_many_pings
        *_message_options(max_message_size),
    ]
    if max_connections is not None and max_connections < _MOST:  # gRPC aborts the process at a greater number
        options.append(("grpc.max_allowed_incoming_connections", max_connections))
    return options


def _milliseconds(seconds: float) -> int:
    return int(max(1, min(seconds * 1e3, _MOST)))


def _message_options(max_message_size: int | None) -> Options:
    limit = _UNLIMITED if max_message_size is None else max_message_size
    return [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", _UNLIMITED)]


def addresses_of(host: str, port: int) -> list[tuple[str, int]]:
    """The numeric addresses of a host name, IPv4 first; a numeric host comes back as it is.

    gRPC must not see the name: with 127.0.0.1:port taken it binds `localhost:port` to ::1 alone, and succeeds. Loopback
    addresses that this machine does not have (::1 in a container without IPv6) are left out. Raises OSError
    (`socket.gaierror`) if the name is not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family = sorted(found, key=lambda info: info[0] != socket.AF_INET)
    addresses = list(dict.fromkeys((str(info[4][0]), port) for info in by_family))
    present = [address for address in addresses if not _is_absent_loopback(address[0])]
    return present or addresses


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or an address of loopback. No other name is."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_absent_loopback(address: str) -> bool:
    if address != "::1":
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return True
    return False
