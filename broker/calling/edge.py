"""What travels as a reference, and what arrives as a proxy."""

from __future__ import annotations

from typing import Any

import grpc

from broker.codecs import GLOBAL_TYPES, TypeRegistry
from broker.references import served


class Edge:
    """References at the edge of a process: what is served here, and proxies, travel as URIs and arrive as proxies."""

    make_proxy: Any = None  # set by broker.proxy: the class Proxy

    def __init__(self, types: TypeRegistry = GLOBAL_TYPES, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.types = types
        self._credentials = credentials

    def reference(self, value: object) -> str | None:
        if isinstance(value, self.make_proxy):
            return str(value._broker.uri)
        uri = served.uri_of(value)
        return str(uri) if uri is not None else None

    def resolve(self, reference: str) -> object:
        return self.make_proxy(reference, credentials=self._credentials)

    def traceback(self, error: BaseException) -> str:
        return ""
