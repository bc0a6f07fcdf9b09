"""Where a daemon listens, and what address it publishes."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from broker.connection.channels import addresses_of
from broker.errors import DaemonError
from broker.security import Credentials
from broker.uri import join_host_port, split_host_port

_log = logging.getLogger("broker")
_ATTEMPTS = 20  # for a port that is free on every address of a host


class PortInUse(DaemonError, OSError):
    """Something else listens at the address."""


ServerSecurity = grpc.ServerCredentials | Credentials | None


def server_side(credentials: ServerSecurity) -> grpc.ServerCredentials | None:
    """What a server listens with; None without TLS. Raises InvalidCredentials."""
    return credentials.for_server() if isinstance(credentials, Credentials) else credentials


def check_bind(host: str, addresses: Sequence[tuple[str, int]], credentials: ServerSecurity, *, insecure: bool) -> None:
    """Refuses an address that other machines can reach where that is not encrypted, or anybody may call.

    What credentials of gRPC's own ask of clients is their maker's business. Raises DaemonError.
    """
    reachable = [address for address, _ in addresses if not ipaddress.ip_address(address.partition("%")[0]).is_loopback]
    credentials = Credentials() if credentials is None else credentials
    if not reachable or not isinstance(credentials, Credentials):
        return
    lacks = [] if credentials.encrypts else ["nothing is encrypted"]
    lacks += [] if credentials.identifies_clients else ["anyone there may call your objects"]
    if not lacks:
        return
    what = f"{host!r} can be reached from other machines ({', '.join(reachable)}), and {', and '.join(lacks)}"
    if not insecure:
        raise DaemonError(
            f"{what}: give the daemon credentials=broker.Credentials(cert, key, ca) (`python -m broker.certs` makes "
            f"them), or, on a network that you trust, write Daemon(host={host!r}, insecure=True), --insecure on a "
            "command line, or BROKER_INSECURE=1"
        )
    _log.warning("%s: that is what insecure means", what)


def resolve_host(host: str, port: int) -> list[tuple[str, int]]:
    """The numeric addresses to listen on. Raises DaemonError."""
    try:
        return addresses_of(host, port)
    except OSError as error:
        raise DaemonError(
            f"cannot listen on {host!r}: {error.strerror or error}; use a name or address of this machine"
        ) from error


def listen(
    make_server: Callable[[], grpc.Server],
    host: str,
    port: int,
    credentials: grpc.ServerCredentials | None,
) -> tuple[grpc.Server, list[str], int]:
    """A gRPC server that listens on every address of the host, and these addresses and their one port.

    Raises PortInUse and DaemonError.

    Each address is bound by number: grpcio would bind `localhost` to ::1 alone where 127.0.0.1 is taken, and succeed.
    """
    addresses = [address for address, _ in resolve_host(host, port)]
    for attempt in range(_ATTEMPTS):
        chosen = _free_port(host, addresses, port)
        server = make_server()
        try:
            for address in addresses:
                target = join_host_port(address, chosen)
                bound = server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
                if bound != chosen:
                    raise RuntimeError("not bound")
        except RuntimeError as error:
            server.stop(None)
            if port or attempt == _ATTEMPTS - 1:
                raise _in_use(host, chosen) from error
        else:
            return server, addresses, chosen
    raise AssertionError("the last attempt raises")


def _free_port(host: str, addresses: Sequence[str], port: int) -> int:
    """The port, if it is free on every address; any such port for 0."""
    for _ in range(_ATTEMPTS):
        probes: list[socket.socket] = []
        chosen = port
        try:
            for address in addresses:
                probes.append(_bind(address, chosen))
                chosen = probes[-1].getsockname()[1]
            return chosen
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not port:
                continue
            if error.errno == errno.EADDRINUSE:
                raise _in_use(host, port) from error
            raise DaemonError(f"cannot listen on {join_host_port(host, port)}: {error.strerror}") from error
        finally:
            for probe in probes:
                probe.close()
    raise DaemonError(f"found no port that is free on all addresses of {host!r} ({', '.join(addresses)})")


def _bind(address: str, port: int) -> socket.socket:
    probe = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address, port))
        probe.listen(1)
    except OSError:
        probe.close()
        raise
    return probe


def _in_use(host: str, port: int) -> PortInUse:
    place = join_host_port(host, port)
    error = PortInUse(
        f"cannot listen on {place}: something else listens there; end it, or take another port (0: any free one)"
    )
    error.errno = errno.EADDRINUSE
    return error


def listen_unix(
    make_server: Callable[[], grpc.Server], path: str, credentials: grpc.ServerCredentials | None
) -> grpc.Server:
    """A gRPC server on a Unix socket that only its owner may use. Raises PortInUse, DaemonError.

    A second server would take the path over in silence, so one that lives is looked for first. The socket is bound in a
    directory that nobody else can enter and then linked to its path: nobody ever finds it there with other rights, and
    of two daemons that begin at once one gets the path.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise DaemonError("this system has no Unix sockets: use host and port")
    _check_directory(Path(path).parent)
    _clear_stale(path)
    server = make_server()
    try:
        with tempfile.TemporaryDirectory(prefix=".broker-", dir=Path(path).parent) as private:
            bound = Path(private) / "s"
            target = f"unix:{bound}"
            server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
            bound.chmod(0o600)
            _put_in_place(bound, path)
    except (OSError, RuntimeError) as error:
        server.stop(None)
        if isinstance(error, PortInUse):
            raise
        raise DaemonError(f"cannot listen on the Unix socket {path}: {error}") from error
    return server


def _put_in_place(bound: Path, path: str) -> None:
    """Raises PortInUse if another daemon was quicker."""
    try:
        os.link(bound, path)
    except FileExistsError:
        raise _socket_in_use(path) from None
    except OSError:  # a file system without links for sockets
        bound.rename(path)


def _check_directory(directory: Path) -> None:
    """Refuses a directory in which others could put another socket in the place of ours."""
    try:
        about = directory.stat()
    except OSError as error:
        raise DaemonError(f"cannot listen on a Unix socket in {directory}: {error.strerror}") from None
    others_may_write = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if about.st_uid not in (os.geteuid(), 0) or (others_may_write and not about.st_mode & stat.S_ISVTX):
        raise DaemonError(
            f"cannot listen on a Unix socket in {directory}: others could put a socket of theirs in its place; take a "
            "directory of your own, or one with the sticky bit such as /tmp"
        )


def _clear_stale(path: str) -> None:
    """Removes the socket of a daemon that is gone; refuses one that lives, and what is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise DaemonError(f"cannot listen on the Unix socket {path}: a file is there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _remove_stale(path)
            return
        except OSError as error:
            raise DaemonError(
                f"cannot listen on the Unix socket {path}: one is there that this user may not use "
                f"({error.strerror}); take another path"
            ) from None
    raise _socket_in_use(path)


def _remove_stale(path: str) -> None:
    try:
        Path(path).unlink()
    except OSError as error:
        raise DaemonError(
            f"cannot listen on the Unix socket {path}: the one that another user left there cannot be removed "
            f"({error.strerror}); take another path"
        ) from None


def _socket_in_use(path: str) -> PortInUse:
    error = PortInUse(
        f"cannot listen on the Unix socket {path}: another daemon listens there; end it, or take another path"
    )
    error.errno = errno.EADDRINUSE
    return error


def published_address(host: str, port: int, advertise: str | None) -> tuple[str, int]:
    """The address in URIs: what `advertise` says, else the host; never a wildcard, which leads nowhere."""
    if advertise is not None:
        try:
            name, other_port = split_host_port(advertise)
        except ValueError as error:
            raise DaemonError(f"advertise={advertise!r}: {error}; write host or host:port") from None
        return name, other_port or port
    if host in ("", "0.0.0.0", "::"):
        return _own_address(socket.AF_INET6 if host == "::" else socket.AF_INET), port
    if host == "127.0.1.1":  # what Debian gives a machine's own name
        return "localhost", port
    return host, port


def _own_address(family: socket.AddressFamily) -> str:
    """The address by which others most likely reach this machine: the one of the default route."""
    outside = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # reserved for documentation: nothing is sent
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))
            address: str = probe.getsockname()[0]
        except OSError:  # no network but loopback
            return "localhost"
    return address
