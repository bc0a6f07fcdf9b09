"""The modules of Pyro4 and Pyro5 as programs import them: which names each has, and where these are here.

They are Pyro4 and Pyro5 for programs that `python -m broker.compat` runs, and below broker.compat for others.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "broker.compat."
PACKAGES = str(Path(__file__).parent / "packages")
"""Where Python finds the two for programs that import them by their own names."""
INSIDE = f"{PACKAGES}/-"
"""No folder: below it is what the table says."""
_MARKS = "exposure:behavior,callback,expose,oneway"
_ECHO = "echoserver:*EchoServer,main"
_ERRORS = (
    "*PyroError,*CommunicationError,*ConnectionClosedError,*TimeoutError,*ProtocolError,*MessageTooLargeError,"
    "*NamingError,*DaemonError,*SecurityError,*SerializeError,excepthook"
)
_HOOKS = "register_dict_to_class,register_class_to_dict,unregister_dict_to_class,unregister_class_to_dict"
# Each module: `home:name,name` of broker.compat, where `new=old` renames, and * marks a class that is known by this
# module: it shows in tracebacks and reprs, and in pickles.
_MODULES = {
    "Pyro4": f"configuration:config context:current_context daemon:Daemon {_MARKS} uri:URI"
    " configuration:__version__=PYRO4_VERSION futures:BatchProxy,Future,asyncproxy,batch proxy:Proxy"
    " naming:locateNS=locate_ns,resolve",
    "Pyro4.configuration": "configuration:Configuration,config,dump,main",
    "Pyro4.constants": "configuration:VERSION=PYRO4_VERSION proxy:DAEMON_NAME,NAMESERVER_NAME"
    " protocol:PROTOCOL_VERSION",
    "Pyro4.core": "configuration:config context:current_context daemon:*Daemon,*DaemonObject uri:*URI"
    f" {_MARKS} futures:BatchProxy,_BatchProxyAdapter=BatchProxy,_AsyncRemoteMethod=AsyncRemoteMethod,asyncproxy,batch"
    " naming:_locateNS=locate_ns,_resolve=resolve,resolve proxy:*Proxy,_RemoteMethod,_StreamResultIterator"
    " serializers:*SerializedBlob",
    "Pyro4.errors": f"errors:{_ERRORS}",
    "Pyro4.futures": "futures:*Future,*FutureResult,_ExceptionWrapper",
    "Pyro4.message": "protocol:Message=SendingMessage,__getattr__ context:FLAGS_ONEWAY",
    "Pyro4.naming": "naming:MemoryStorage,SqlStorage,*NameServer,type_meta,locateNS=locate_ns,resolve"
    " naming:*BroadcastServer,*NameServerDaemon,startNS=start_ns,startNSloop=start_ns_loop,main",
    "Pyro4.naming_storage": "naming:SqlStorage",
    "Pyro4.nsc": "nsc:handleCommand,main",
    "Pyro4.socketutil": "context:SocketConnection,family_str,bindOnUnusedPort=bind_unused_port,getInterfaceAddress"
    ",findProbablyUnusedPort=find_probably_unused_port,getIpAddress,getIpVersion",
    "Pyro4.test": "",
    "Pyro4.test.echoserver": "echoserver:EchoServer,main",
    "Pyro4.util": "errors:excepthook,formatTraceback=format_traceback,getPyroTraceback=get_pyro_traceback"
    " exposure:get_exposed_members,is_private_attribute,getAttribute=get_attribute,get_exposed_property_value"
    ",set_exposed_property_value serializers:SerializerBase,get_serializer",
    "Pyro4.utils": "",
    "Pyro4.utils.echoserver": _ECHO,
    "Pyro4.utils.flame": "protocol:__getattr__",
    "Pyro4.utils.httpgateway": "protocol:__getattr__",
    "Pyro5": "configuration:__version__=PYRO_VERSION,config",
    "Pyro5.api": f"configuration:__version__=PYRO_VERSION,config context:current_context {_MARKS} uri:URI"
    " futures:BatchProxy proxy:Proxy naming:locate_ns,resolve,type_meta naming:start_ns,start_ns_loop"
    f" serializers:SerializedBlob,SerializerBase,{_HOOKS} daemon:Daemon,DaemonObject,serve",
    "Pyro5.callcontext": "context:_CallContext=CallContext,current_context",
    "Pyro5.client": "proxy:*Proxy,_RemoteMethod,_StreamResultIterator futures:*BatchProxy serializers:*SerializedBlob",
    "Pyro5.compatibility": "",
    "Pyro5.compatibility.Pyro4": "",
    "Pyro5.configure": "configuration:Configuration,dump,global_config=config,main",
    "Pyro5.core": "naming:locate_ns,resolve,type_meta proxy:DAEMON_NAME,NAMESERVER_NAME uri:*URI"
    " futures:_ExceptionWrapper",
    "Pyro5.errors": f"errors:{_ERRORS},format_traceback,get_pyro_traceback",
    "Pyro5.nameserver": "naming:*BroadcastServer,MemoryStorage,SqlStorage,*NameServer,*NameServerDaemon"
    ",start_ns,start_ns_loop,main",
    "Pyro5.nsc": "nsc:handle_command,main",
    "Pyro5.protocol": "protocol:PROTOCOL_VERSION,SendingMessage,__getattr__ context:FLAGS_ONEWAY",
    "Pyro5.serializers": "serializers:SerializerBase,serializers,serializers_by_id,SerpentSerializer,MarshalSerializer"
    ",JsonSerializer,MsgpackSerializer",
    "Pyro5.server": f"daemon:*Daemon,*DaemonObject,serve {_MARKS} exposure:is_private_attribute"
    ",_get_exposed_members=get_exposed_members,_get_attribute=get_attribute"
    ",_get_exposed_property_value=get_exposed_property_value,_set_exposed_property_value=set_exposed_property_value",
    "Pyro5.socketutil": "context:SocketConnection,family_str,bind_unused_port,find_probably_unused_port"
    ",get_interface,get_ip_address",
    "Pyro5.utils": "",
    "Pyro5.utils.echoserver": _ECHO,
    "Pyro5.utils.httpgateway": "protocol:__getattr__",
}


class PyroModules(MetaPathFinder, Loader):
    """Finds the modules of the table below `broker.compat`, and below the packages of that folder."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if name.removeprefix(_PREFIX) not in _MODULES or not (name.startswith(_PREFIX) or INSIDE in (path or ())):
            return None
        is_package = any(other.startswith(f"{name.removeprefix(_PREFIX)}.") for other in _MODULES)
        spec = ModuleSpec(name, self, origin=__file__, is_package=is_package)
        if is_package:
            spec.submodule_search_locations = [INSIDE]
        return spec

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.endswith("Pyro5.compatibility.Pyro4"):  # Pyro5's own layer for Pyro4
            sys.modules[module.__name__] = import_module(module.__name__.replace("Pyro5.compatibility.", ""))
        else:
            fill(vars(module))

    def get_code(self, name: str) -> CodeType:
        """What `python -m` runs."""
        home = next(home for home, old, _ in _names(name.removeprefix(_PREFIX)) if old == "main")
        return compile(f"from {_PREFIX}{home} import main\nmain()", name, "exec")


def fill(namespace: dict[str, Any]) -> None:
    """Puts into a module what its programs find there; a package has its modules as soon as they are asked for."""
    module = namespace["__name__"]
    for home, old, new in _names(module.removeprefix(_PREFIX)):
        namespace[new.removeprefix("*")] = getattr(import_module(_PREFIX + home), old)
    namespace["__all__"] = [name for name in namespace if not name.startswith("_")]
    if module in ("Pyro4", "Pyro5"):
        _name_classes(module)
    if "__path__" in namespace:
        namespace["__getattr__"] = functools.partial(_submodule, module)


def _name_classes(package: str) -> None:
    """Says where programs find our classes; the package that is imported first does."""
    for module in _MODULES:
        for home, old, new in _names(module) if module.startswith(f"{package}.") else ():
            value = getattr(import_module(_PREFIX + home), old)
            if new.startswith("*") and value.__module__.startswith(_PREFIX):
                value.__module__ = module


def _names(module: str) -> Iterator[tuple[str, str, str]]:
    for part in _MODULES[module].split():
        home, _, names = part.partition(":")
        for name in filter(None, names.split(",")):
            new, _, old = name.partition("=")
            yield home, old or new.removeprefix("*"), new


def _submodule(package: str, name: str) -> ModuleType:
    if f"{package}.{name}".removeprefix(_PREFIX) not in _MODULES:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return import_module(f"{package}.{name}")


sys.meta_path.append(PyroModules())
