"""The modules of Pyro4 and Pyro5 as programs import them, and where here is what they have.

They are Pyro4 and Pyro5 for programs that `python -m broker.compat` runs, and below broker.compat for others.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import abc, import_module, machinery
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "broker.compat."
_INSIDE = str(Path(__file__).parent / "packages/-")  # no folder: below it is what the table says
# Each module, and the homes in broker.compat of what is its own: these classes show in tracebacks, reprs and pickles as
# of the first module that has them. Beside its own each module has the names of all others.
_MODULES = {
    "Pyro4": "", "Pyro4.configuration": "configuration", "Pyro4.constants": "configuration", "Pyro4.errors": "errors",
    "Pyro4.core": "uri proxy daemon exposure context", "Pyro4.futures": "futures", "Pyro4.message": "context",
    "Pyro4.naming": "naming", "Pyro4.naming_storage": "naming", "Pyro4.nsc": "nsc", "Pyro4.socketutil": "context",
    "Pyro4.test": "", "Pyro4.test.echoserver": "echoserver", "Pyro4.util": "serializers errors exposure",
    "Pyro4.utils": "", "Pyro4.utils.echoserver": "echoserver", "Pyro4.utils.flame": "",
    "Pyro4.utils.httpgateway": "",
    "Pyro5": "", "Pyro5.api": "", "Pyro5.callcontext": "context", "Pyro5.client": "proxy futures",
    "Pyro5.compatibility": "", "Pyro5.compatibility.Pyro4": "", "Pyro5.configure": "configuration", "Pyro5.core": "uri",
    "Pyro5.errors": "errors", "Pyro5.nameserver": "naming", "Pyro5.nsc": "nsc", "Pyro5.protocol": "context",
    "Pyro5.serializers": "serializers", "Pyro5.server": "daemon exposure", "Pyro5.socketutil": "context",
    "Pyro5.utils": "", "Pyro5.utils.echoserver": "echoserver", "Pyro5.utils.httpgateway": "",
}  # fmt: skip
_SHARED = "configuration context errors exposure uri serializers proxy futures daemon naming"
_ALIASES = {
    "locateNS": "locate_ns", "_locateNS": "locate_ns", "startNS": "start_ns", "startNSloop": "start_ns_loop",
    "bindOnUnusedPort": "bind_unused_port", "findProbablyUnusedPort": "find_probably_unused_port",
    "formatTraceback": "format_traceback", "getPyroTraceback": "get_pyro_traceback", "getAttribute": "get_attribute",
    "_BatchProxyAdapter": "BatchProxy", "VERSION": "PYRO4_VERSION", "Message": "SendingMessage",
    "global_config": "config",
}  # fmt: skip
_OF_PYROS_WIRE = ("message", "protocol", "flame", "httpgateway")
# What `from … import *` gives of the packages and of Pyro5.api.
_API = """
    config URI Proxy Daemon DaemonObject BatchProxy SerializedBlob SerializerBase callback expose behavior oneway
    current_context locate_ns resolve type_meta start_ns start_ns_loop serve register_dict_to_class
    register_class_to_dict unregister_dict_to_class unregister_class_to_dict"""


class PyroModules(abc.MetaPathFinder, abc.Loader):
    """Finds the modules of the table below `broker.compat`, and below the packages of that folder."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> machinery.ModuleSpec | None:
        if name.removeprefix(_PREFIX) not in _MODULES or not (name.startswith(_PREFIX) or _INSIDE in (path or ())):
            return None
        is_package = any(other.startswith(f"{name.removeprefix(_PREFIX)}.") for other in _MODULES)
        spec = machinery.ModuleSpec(name, self, origin=name)  # as which `python -m` runs it: its usage shows that
        spec.submodule_search_locations = [_INSIDE] if is_package else None
        return spec

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.endswith("Pyro5.compatibility.Pyro4"):  # Pyro5's own layer for Pyro4
            sys.modules[module.__name__] = import_module(module.__name__.replace("Pyro5.compatibility.", ""))
        else:
            fill(vars(module))

    def get_code(self, name: str) -> CodeType:
        """What `python -m` runs."""
        home = _MODULES[name.removeprefix(_PREFIX)]
        return compile(f"from {_PREFIX}{home} import main\nmain()", name, "exec")


def fill(namespace: dict[str, Any]) -> None:
    """Puts into a module what its programs find there; a package has its modules as soon as they are asked for."""
    module = namespace["__name__"].removeprefix(_PREFIX)
    own = {name: value for home in _MODULES[module].split() for name, value in _offered(home).items()}
    names = {name: value for home in _SHARED.split() for name, value in _offered(home).items() if name != "main"} | own
    names |= {alias: names[name] for alias, name in _ALIASES.items() if name in names}
    namespace |= {name: value for name, value in names.items() if f"{module}.{name}" not in _MODULES}
    namespace["__version__"] = names["PYRO4_VERSION" if module.startswith("Pyro4") else "PYRO_VERSION"]
    namespace["__all__"] = [name for name in own or _API.split() if not name.startswith("_")]
    if namespace["__name__"] in ("Pyro4", "Pyro5"):
        namespace["__path__"] = [_INSIDE]
        _name_classes(module)
    namespace["__getattr__"] = lambda name: _asked_for(namespace, name)


def _offered(home: str) -> dict[str, Any]:
    """What programs may find of a module of ours: its constants, and what is made there."""
    found = vars(import_module(_PREFIX + home)).items()
    return {name: value for name, value in found if not name.startswith("__") and _is_made_here(value)}


def _is_made_here(value: object) -> bool:
    made_in = getattr(value, "__module__", None) or _PREFIX
    return made_in.startswith((_PREFIX, "Pyro")) and not isinstance(value, ModuleType)


def _name_classes(package: str) -> None:
    """Says where programs find our classes; the package that is imported first does."""
    for module, homes in _MODULES.items():
        for home in homes.split() if module.startswith(f"{package}.") else ():
            for value in _offered(home).values():
                if isinstance(value, type) and value.__module__ == _PREFIX + home:
                    value.__module__ = module


def _asked_for(namespace: dict[str, Any], name: str) -> Any:
    """A module of a package, or what Pyro calls private and is public here; what else is asked for is not there."""
    module = namespace["__name__"]
    if name.startswith("_") and name[1:] in namespace:
        return namespace[name[1:]]
    if f"{module}.{name}".removeprefix(_PREFIX) in _MODULES:
        return import_module(f"{module}.{name}")
    if module.rpartition(".")[2] in _OF_PYROS_WIRE and not name.startswith("__"):
        raise NotImplementedError(f"{name}: calls travel over gRPC; there are no messages or tools of Pyro's own wire")
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


sys.meta_path.append(PyroModules())
