"""Pyro's hooks for classes, and what its serializers mean here: `json`, and `pickle` where both sides opt in."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import types
from collections.abc import Callable, Iterator
from typing import Any

import broker
from broker.compat import errors
from broker.compat.configuration import config
from broker.compat.errors import SerializeError

_CODECS = dict.fromkeys(["serpent", "marshal", "json", "msgpack"], "json")
_CODECS |= dict.fromkeys(["pickle", "cloudpickle", "dill"], "pickle")
_KEPT: tuple[type, ...] = (
    BaseException, enum.Enum, broker.Proxy, broker.Record, types.FunctionType, types.BuiltinFunctionType,
    types.MethodType, types.ModuleType, types.CoroutineType, type, Iterator, bytes, str, dict, list, tuple, int,
)  # fmt: skip
_KEPT_MODULES = ("broker", "numpy", "builtins", "collections", "Pyro4", "Pyro5")
_replacements: dict[type, Callable[[Any], Any]] = {}
_to_dict: dict[type, Callable[[Any], dict[str, Any]]] = {}


class TaggedDict:
    """Travels in place of an object of any class: a dict that says under "__class__" what is to be made of it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields


class SerializerBase:
    """The hooks, which hold for the process. All serializers write the same text."""

    def dumps(self, data: object) -> Any:
        return _translating(broker.dumps, data)

    def loads(self, data: Any) -> Any:
        return _translating(broker.loads, data)

    def dumpsCall(self, obj: str, method: str, vargs: Any, kwargs: Any) -> Any:
        return self.dumps((obj, method, vargs, kwargs))

    loadsCall = loads

    @classmethod
    def register_class_to_dict(cls, clazz: type, converter: Any, serpent_too: bool = True) -> None:
        """Lets instances of a class, and of those derived from it, travel as the dict that `converter(obj)` gives."""
        _to_dict[clazz] = converter

    @classmethod
    def unregister_class_to_dict(cls, clazz: type) -> None:
        _to_dict.pop(clazz, None)

    @classmethod
    def register_dict_to_class(cls, classname: str, converter: Callable[[str, dict[str, Any]], object]) -> None:
        """Makes `converter(classname, dict)` of each dict that arrives with that name under "__class__"."""
        errors.makers[classname] = converter

        def make(fields: dict[str, Any]) -> object:
            return cls.dict_to_class({"__class__": classname, **fields})

        # What the other side's broker takes apart by itself, a dataclass say, has that name too. Where it is that of a
        # class which is registered here, that is what arrives.
        with contextlib.suppress(ValueError):
            broker.register_type(type("Arrived", (), {}), name=classname, to_dict=vars, from_dict=make)

    @classmethod
    def unregister_dict_to_class(cls, classname: str) -> None:
        errors.makers.pop(classname, None)

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
            raise SerializeError(f"don't know how to serialize class {type(obj)}: its __getstate__ gives no dict")
        return {**name, **(state or {})}

    @classmethod
    def dict_to_class(cls, data: dict[str, Any]) -> object:
        """What such a dict becomes. Raises SerializeError where nobody has said what."""
        name = str(data.get("__class__", "<unknown>"))
        if name not in errors.makers:
            raise SerializeError(f"unsupported serialized class: {name}")
        return errors.makers[name](name, data)


def proxied(value: Any) -> Any:
    """A registered object as its proxy, any other as it is."""
    daemon = None if isinstance(value, _KEPT) else getattr(value, "_pyroDaemon", None)
    return daemon.proxyFor(value) if daemon is not None and config.AUTOPROXY and daemon._serves(value) else value


def travels_as(value: Any, codec: str) -> object:
    """What a hook says; in json, an object of a class that the broker cannot take apart as a dict."""
    for cls, replace in _replacements.items():
        if isinstance(value, cls):
            return replace(value)
    if codec != "json" or isinstance(value, TaggedDict):
        return value
    is_kept = isinstance(value, _KEPT) or type(value).__module__.partition(".")[0] in _KEPT_MODULES
    if (is_kept or dataclasses.is_dataclass(value)) and not any(isinstance(value, cls) for cls in _to_dict):
        return value
    return TaggedDict(SerializerBase.class_to_dict(value))


class _Written(broker.Proxy):
    """What a serializer writes in place of values."""

    _travels_as = staticmethod(lambda value, codec: travels_as(proxied(value), codec))


def _translating(convert: Callable[..., Any], data: Any) -> Any:
    try:
        return convert(data, proxy_class=_Written)
    except broker.errors.BrokerError as error:
        raise errors.translated(error) from None


UnknownSerializer = type("UnknownSerializer", (SerializeError, ValueError, KeyError), {"__module__": __name__})


def codec_of(serializer: str) -> str:
    """The codec that a serializer means. Raises UnknownSerializer."""
    if serializer not in _CODECS:
        raise UnknownSerializer(f"unknown serializer configured: {serializer!r} (there are: {', '.join(_CODECS)})")
    return _CODECS[serializer]


def accepted_codecs() -> tuple[str, ...]:
    """What a daemon accepts: pickle only if SERIALIZERS_ACCEPTED names it, or one of its kind."""
    return tuple(dict.fromkeys(["json", *(_CODECS.get(name, "json") for name in sorted(config.SERIALIZERS_ACCEPTED))]))


class SerializedBlob:
    """Data that is passed on with some information beside it; it has to be the only argument of its call."""

    def __init__(self, info: object, data: Any, is_blob: bool = False) -> None:
        if is_blob:
            raise NotImplementedError("messages of Pyro's own protocol are not supported: give the data itself")
        self.info, self._data = info, data

    def deserialized(self) -> Any:
        return self._data


broker.register_type(
    TaggedDict,
    name="Pyro.object",
    to_dict=lambda tagged: {"items": list(tagged.fields.items())},
    from_dict=lambda fields: SerializerBase.dict_to_class(dict(fields["items"])),
)
broker.register_type(
    SerializedBlob,
    name="Pyro.SerializedBlob",
    to_dict=lambda blob: {"info": blob.info, "data": blob._data},
    from_dict=lambda fields: SerializedBlob(fields["info"], fields["data"]),
)
serializers = {
    name: type(f"{name.title()}Serializer", (SerializerBase,), {"serializer_id": number, "__module__": __name__})()
    for number, name in enumerate(_CODECS, 1)
}
serializers_by_id = {serializer.serializer_id: serializer for serializer in serializers.values()}
SerpentSerializer, MarshalSerializer, JsonSerializer, MsgpackSerializer, *_ = map(type, serializers.values())
get_serializer = serializers.__getitem__
register_class_to_dict = SerializerBase.register_class_to_dict
register_dict_to_class = SerializerBase.register_dict_to_class
unregister_class_to_dict = SerializerBase.unregister_class_to_dict
unregister_dict_to_class = SerializerBase.unregister_dict_to_class
