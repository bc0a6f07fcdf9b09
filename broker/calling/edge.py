"""What travels as a reference, and what arrives as a proxy."""

from __future__ import annotations

from typing import Any

from broker.codecs import GLOBAL_TYPES, MAX_BUFFERS, MAX_DECODED_SIZE, MAX_DEPTH, Reference, TypeRegistry
from broker.connection.channels import ChannelSecurity
from broker.connection.exports import Held
from broker.errors import CodecError, format_remote_traceback
from broker.exports import Export, ExportedObject, pass_on
from broker.references import served


class Edge:
    """References at the edge of a process: what is served here, and proxies, travel as URIs and arrive as proxies.

    What is exported travels beside the text, and arrives as a proxy, or where it was exported as itself.
    """

    proxies: Any = ()  # set by broker.proxy_base: the class of all proxies
    proxy: Any = None  # set by broker.proxy: the class of those that arrive
    replace: Any = None  # what travels in place of values, if a class of proxies says so
    accept: Any = None  # what arrives in place of records, if such a class says so
    iterator: Any = None  # set by broker.calling.passed: the class of iterators that arrive
    max_nesting = MAX_DEPTH
    max_buffers = MAX_BUFFERS
    max_decoded_size = MAX_DECODED_SIZE

    def __init__(
        self,
        types: TypeRegistry = GLOBAL_TYPES,
        credentials: ChannelSecurity | None = None,
        proxy_class: Any = None,
    ) -> None:
        self.types = types
        self._credentials = credentials
        if proxy_class is not None:
            self.proxy = proxy_class
            self.replace, self.accept = proxy_class._travels_as, proxy_class._arrives_as

    def reference(self, value: object) -> str | Reference | None:
        if isinstance(value, self.proxies):
            reference: str | Reference = value._broker._remote.reference()
            return reference
        if isinstance(value, Export):
            return value._exported
        if isinstance(value, self.iterator):
            held: Reference = value.held
            return held
        uri = served.uri_of(value)
        return str(uri) if uri is not None else None

    def stream(self, iterator: object) -> Reference:
        return pass_on(iterator)

    def resolve(self, reference: str | Reference) -> object:
        if isinstance(reference, str):
            return self.proxy(reference, credentials=self._credentials)
        if isinstance(reference, Held) and reference.stream:
            return self.iterator.of(reference, self.types)
        if isinstance(reference, Held):
            return self.proxy._of_held(reference, self._credentials)
        if isinstance(reference, ExportedObject):
            return reference.target
        raise CodecError(f"there is no {reference!r}")

    def traceback(self, error: BaseException) -> str:
        return ""


class ServingEdge(Edge):
    """The edge of who serves calls: tracebacks go with exceptions unless they are to stay at home."""

    def __init__(
        self, types: TypeRegistry, tracebacks: bool, credentials: ChannelSecurity | None = None, proxy_class: Any = None
    ) -> None:
        """`credentials` are those of proxies that arrive."""
        super().__init__(types, credentials, proxy_class)
        self._tracebacks = tracebacks

    def resolve(self, reference: str | Reference) -> object:
        """Who calls chose the place that a URI leads to: answers from there are not loaded from pickle unasked."""
        found = super().resolve(reference)
        if isinstance(reference, str):
            proxy: Any = found
            if proxy._broker.codec != "json":
                proxy._broker.set("codec", "json")
        return found

    def traceback(self, error: BaseException) -> str:
        return format_remote_traceback(error) if self._tracebacks else ""
