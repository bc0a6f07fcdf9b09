"""How a proxy calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from broker.around import NO_FUNCTIONS, AroundFunctions
from broker.codecs import CODECS
from broker.connection.channels import ChannelSecurity
from broker.errors import CodecError
from broker.uri import URI


@dataclass(frozen=True, slots=True)
class Options:
    """How a proxy calls. Times are in seconds."""

    timeout: float | None = None
    connect_timeout: float = 10
    wait: float = 0
    codec: str = "json"
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    retries: int = 0
    credentials: ChannelSecurity | None = None
    local: bool = True
    around: AroundFunctions = NO_FUNCTIONS
    patience: float | None = None
    """How long who makes a call waits for it; the call itself goes on."""
    greeting: Any = None
    """What each session begins with; None: nothing."""
    resolve: Callable[[URI], URI | str] | None = None
    """Where a URI leads, each time that the proxy connects; None: where the name server says."""
    proxy_class: Any = None
    """The class of proxies that arrive; None: that of all others."""
    is_plain: bool = field(init=False, default=False)
    """Whether calls carry nothing but their arguments, in json, and are made once."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise CodecError(f"there is no codec {self.codec!r}: the codecs are {', '.join(CODECS)}")
        if self.patience is not None and not 0 < self.patience < math.inf:
            raise ValueError(f"patience is a number of seconds above 0, or None for no limit; not {self.patience!r}")
        given: list[tuple[object, object]] = [*self.metadata.items()]
        for key, value in given:
            if not isinstance(key, str) or not isinstance(value, (str, bytes)):
                raise TypeError(f"metadata is text, and text or bytes; not {key!r}: {value!r}")
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        rare = self.timeout is not None or self.patience is not None or self.metadata or self.around or self.retries
        rare = rare or self.greeting is not None
        object.__setattr__(self, "is_plain", self.codec == "json" and not rare)

    def with_(self, **changes: Any) -> Options:
        return replace(self, **changes)
