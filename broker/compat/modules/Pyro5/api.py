from . import __version__, callcontext, client, configure, core, errors, nameserver, serializers, server
from .callcontext import current_context
from .client import BatchProxy, Proxy, SerializedBlob
from .configure import global_config as config
from .core import URI, locate_ns, resolve, type_meta
from .nameserver import start_ns, start_ns_loop
from .serializers import SerializerBase
from .server import Daemon, DaemonObject, behavior, callback, expose, oneway, serve

register_dict_to_class = SerializerBase.register_dict_to_class
register_class_to_dict = SerializerBase.register_class_to_dict
unregister_dict_to_class = SerializerBase.unregister_dict_to_class
unregister_class_to_dict = SerializerBase.unregister_class_to_dict

__all__ = [
    "config",
    "URI",
    "locate_ns",
    "resolve",
    "type_meta",
    "current_context",
    "Proxy",
    "BatchProxy",
    "SerializedBlob",
    "SerializerBase",
    "Daemon",
    "DaemonObject",
    "callback",
    "expose",
    "behavior",
    "oneway",
    "start_ns",
    "start_ns_loop",
    "serve",
    "register_dict_to_class",
    "register_class_to_dict",
    "unregister_dict_to_class",
    "unregister_class_to_dict",
]
