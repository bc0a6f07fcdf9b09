"""config.SSL and its certificates, as the credentials of gRPC."""

from __future__ import annotations

from pathlib import Path

import grpc

from broker.compat.configuration import config


def _read(path: str, what: str) -> bytes:
    if not Path(path).is_file():
        raise OSError(f"{what} not found: {path!r}")
    return Path(path).read_bytes()


def _authorities() -> bytes | None:
    folder = Path(config.SSL_CACERTS)
    if config.SSL_CACERTS and folder.is_dir():
        return b"\n".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    return _read(config.SSL_CACERTS, "CA certs") if config.SSL_CACERTS else None


def _key(key: str, certificate: str, password: str) -> bytes:
    if password:
        raise NotImplementedError("encrypted keys are not supported: give the key without a password")
    return _read(key or certificate, "key file")


def client() -> grpc.ChannelCredentials | None:
    """Those of a proxy; None without TLS. Raises OSError for a file that is not there."""
    if not config.SSL:
        return None
    if not config.SSL_CLIENTCERT:
        return grpc.ssl_channel_credentials(_authorities())
    certificate = config.SSL_CLIENTCERT
    key = _key(config.SSL_CLIENTKEY, certificate, config.SSL_CLIENTKEYPASSWD)
    return grpc.ssl_channel_credentials(_authorities(), key, _read(certificate, "client cert file"))


def server() -> grpc.ServerCredentials | None:
    """Those of a daemon; None without TLS. Raises OSError for a file that is not there."""
    if not config.SSL:
        return None
    certificate = _read(config.SSL_SERVERCERT, "server cert file")
    key = _key(config.SSL_SERVERKEY, config.SSL_SERVERCERT, config.SSL_SERVERKEYPASSWD)
    return grpc.ssl_server_credentials([(key, certificate)], _authorities(), config.SSL_REQUIRECLIENTCERT)
