"""Pyro's hooks for classes, and what its serializers mean here: `json`, and `pickle` where both sides opt in."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

import broker
from broker.compat import errors
from broker.compat.configuration import config

_CODECS = dict.fromkeys(["serpent", "marshal", "json", "msgpack"], "json")
_CODECS |= dict.fromkeys(["pickle", "cloudpickle", "dill"], "pickle")
_KEPT = (BaseException, enum.Enum, broker.Proxy, broker.Record, Iterator, bytes, str, dict, list, tuple, int)
_KEPT_MODULES = ("broker", "numpy", "builtins", "collections", "Pyro4", "Pyro5")
_replacements: dict[type, Callable[[Any], Any]] = {}
_to_dict: dict[type, Callable[[Any], dict[str, Any]]] = {}


def register_class_to_dict(clazz: type, converter: Any, serpent_too: bool = True) -> None:
    """Lets instances of a class, and of those derived from it, travel as the dict that `converter(obj)` gives."""
    _to_dict[clazz] = converter


def unregister_class_to_dict(clazz: type) -> None:
    _to_dict.pop(clazz, None)


def register_dict_to_class(classname: str, converter: Callable[[str, dict[str, Any]], object]) -> None:
    """Makes `converter(classname, dict)` of each dict that arrives with that name under "__class__"."""
    errors.makers[classname] = converter


def unregister_dict_to_class(classname: str) -> None:
    errors.makers.pop(classname, None)


class SerializerBase:
    """The hooks, which hold for the process. All serializers write the same text."""

    register_class_to_dict = staticmethod(register_class_to_dict)
    register_dict_to_class = staticmethod(register_dict_to_class)
    unregister_class_to_dict = staticmethod(unregister_class_to_dict)
    unregister_dict_to_class = staticmethod(unregister_dict_to_class)

    def dumps(self, data: object) -> Any:
        with errors.translating():
            return broker.dumps(data, proxy_class=_Written)

    def loads(self, data: Any) -> Any:
        with errors.translating():
            return broker.loads(data, proxy_class=_Written)

    def dumpsCall(self, obj: str, method: str, vargs: Any, kwargs: Any) -> Any:
        return self.dumps((obj, method, vargs, kwargs))

    loadsCall = loads

    @classmethod
    def register_type_replacement(cls, object_type: type, replacement_function: Callable[[Any], Any]) -> None:
        """Lets instances of a type travel as what the function makes of them. Raises ValueError for what is none."""
        if object_type is type or not isinstance(object_type, type):
            raise ValueError("refusing to register replacement for a non-type or the type 'type' itself")
        _replacements[object_type] = replacement_function

    @classmethod
    def class_to_dict(cls, obj: Any) -> dict[str, Any]:
        """What an object travels as."""
        name = {"__class__": f"{type(obj).__module__}.{type(obj).__name__}"}
        for clazz, converter in _to_dict.items():
            if isinstance(obj, clazz):
                return {**name, **converter(obj)}
        if isinstance(obj, BaseException):
            return errors.as_dict(obj)
        state = obj.__getstate__()
        if isinstance(state, tuple) and len(state) == 2:  # with __slots__
            state = {**(state[0] or {}), **(state[1] or {})}
        if not isinstance(state, dict | None):
            raise errors.SerializeError(f"don't know how to serialize class {type(obj)}: __getstate__ gives no dict")
        return {**name, **(state or {})}

    @classmethod
    def dict_to_class(cls, data: dict[str, Any]) -> object:
        """What such a dict becomes. Raises SerializeError where nobody has said what."""
        name = str(data.get("__class__", "<unknown>"))
        errors.refuse(name not in errors.makers, errors.SerializeError, f"unsupported serialized class: {name}")
        return errors.makers[name](name, data)


def proxied(value: Any) -> Any:
    """A registered object as its proxy, any other as it is."""
    daemon = getattr(value, "_pyroDaemon", None)
    return daemon.proxyFor(value) if daemon is not None and config.AUTOPROXY and daemon._serves(value) else value


def travels_as(value: Any, codec: str) -> object:
    """What a hook says; in json, of an object of a class that the broker cannot take apart the data."""
    for cls, replace in _replacements.items():
        if isinstance(value, cls):
            return replace(value)
    if codec != "json" or isinstance(value, broker.Record):
        return value
    is_kept = isinstance(value, _KEPT) or type(value).__module__.partition(".")[0] in _KEPT_MODULES
    if (is_kept or dataclasses.is_dataclass(value)) and not any(isinstance(value, cls) for cls in _to_dict):
        return value
    fields = SerializerBase.class_to_dict(value)
    return broker.Record(fields.pop("__class__"), fields)


def arrives_as(record: broker.Record) -> object:
    """What becomes of the data of a class that is not registered with the broker."""
    if record._kind == "object":
        return SerializerBase.dict_to_class({"__class__": record._type, **record._fields})
    return record.value if record._kind == "enum" else tuple(record._fields.values())  # as in Pyro, without a hook


class _Written(broker.Proxy):
    """What a serializer writes in place of values."""

    _travels_as = staticmethod(lambda value, codec: travels_as(proxied(value), codec))
    _arrives_as = staticmethod(arrives_as)


UnknownSerializer = type("UnknownSerializer", (errors.SerializeError, ValueError, KeyError), {"__module__": __name__})


def codec_of(serializer: str | None) -> str:
    """The codec that a serializer means, or that of the configuration. Raises UnknownSerializer."""
    serializer = serializer or config.SERIALIZER
    if serializer not in _CODECS:
        raise UnknownSerializer(f"unknown serializer configured: {serializer!r} (there are: {', '.join(_CODECS)})")
    return _CODECS[serializer]


def accepted_codecs() -> tuple[str, ...]:
    """What a daemon accepts: pickle only if SERIALIZERS_ACCEPTED names it, or one of its kind."""
    return tuple(dict.fromkeys(["json", *(_CODECS.get(name, "json") for name in sorted(config.SERIALIZERS_ACCEPTED))]))


@broker.register_type(name="Pyro.SerializedBlob")
@dataclasses.dataclass
class SerializedBlob:
    """Data that is passed on with some information beside it; it has to be the only argument of its call."""

    info: object
    _data: Any
    is_blob: bool = False

    def __post_init__(self) -> None:
        errors.refuse(self.is_blob, NotImplementedError, "Pyro's own messages are not supported: give the data itself")

    def deserialized(self) -> Any:
        return self._data


serializers = {
    name: type(f"{name.title()}Serializer", (SerializerBase,), {"serializer_id": number, "__module__": __name__})()
    for number, name in enumerate(_CODECS, 1)
}
serializers_by_id = {serializer.serializer_id: serializer for serializer in serializers.values()}
SerpentSerializer, MarshalSerializer, JsonSerializer, MsgpackSerializer, *_ = map(type, serializers.values())
get_serializer = serializers.__getitem__
