"""What of an object is remote by Pyro's rules: its marks are on functions, an override that is not marked is not."""

from __future__ import annotations

import inspect
from typing import Any

import broker
from broker.compat.errors import refuse

FORWARDED = frozenset({"__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__call__"})
_WRONG_ORDER = "using @expose on a classmethod/staticmethod must be done after @classmethod/@staticmethod"
# Special names that are never remote, without their underscores.
_NEVER = """
    init init_subclass class module weakref call new del repr str format nonzero bool coerce cmp eq ne hash lt gt le ge
    dir enter exit copy deepcopy sizeof getattr setattr hasattr getattribute delattr instancecheck subclasscheck
    subclasshook getinitargs getnewargs getnewargs_ex getstate setstate reduce reduce_ex dict slots doc metaclass
    unicode long"""


def is_private_attribute(name: str) -> bool:
    """Whether a name is never remote: with an underscore first, but for most dunder names."""
    is_special = len(name) > 4 and name[:2] == name[-2:] == "__"
    return name[2:-2] in _NEVER.split() if is_special else name.startswith("_")


def expose(target: Any) -> Any:
    """Marks a method, a property, or all public members that a class itself defines."""
    if isinstance(target, staticmethod | classmethod):
        raise AttributeError(f"{_WRONG_ORDER}. Method: {target.__func__.__name__}")
    marked = _functions(target)[0] if isinstance(target, property) else target
    refuse(not hasattr(marked, "__name__"), AttributeError, f"@expose cannot determine what this is: {marked!r}")
    if is_private_attribute(marked.__name__):
        raise AttributeError("exposing private names (starting with _) is not allowed")
    marked._pyroExposed = True
    for name, value in tuple(vars(marked).items()) if isinstance(marked, type) else ():
        for function in _functions(value) if not is_private_attribute(name) else ():
            function._pyroExposed = True
    return target


def _functions(value: Any) -> list[Any]:
    """The functions of a member that hold its marks."""
    if isinstance(value, property):
        return [function for function in (value.fget, value.fset, value.fdel) if function is not None]
    value = getattr(value, "__func__", value)
    return [value] if inspect.isfunction(value) else []


def oneway(method: Any) -> Any:
    """Marks a method whose callers do not wait for it."""
    method._pyroOneway = True
    return method


def callback(method: Any) -> Any:
    """Marks a method whose exceptions are logged by the daemon too, not only sent to the caller."""
    method._pyroCallback = True
    return method


def behavior(instance_mode: Any = "session", instance_creator: Any = None) -> Any:
    """Says how a daemon makes instances of a class: one per `session` (a proxy's), a `single` one, or `percall`."""
    refuse(not isinstance(instance_mode, str), SyntaxError, "behavior decorator is missing argument(s)")

    def decorate(cls: Any) -> Any:
        refuse(not inspect.isclass(cls), TypeError, "behavior decorator can only be used on a class")
        cls._pyroInstancing = instance_mode, instance_creator
        creator = instance_creator or (lambda cls: cls())  # for classes that cannot be made: it is the call that fails
        return broker.behavior(instance_mode, creator)(cls)

    return decorate


def get_exposed_members(target: object, only_exposed: bool = True) -> dict[str, set[str]]:
    """The names of what is remote: `methods`, those of them that are `oneway`, and `attrs` (properties)."""
    cls = target if inspect.isclass(target) else type(target)
    found: dict[str, set[str]] = {"methods": set(), "oneway": set(), "attrs": set()}
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        functions = _functions(value) if not is_private_attribute(name) else []
        if any(getattr(function, "_pyroExposed", not only_exposed) for function in functions):
            found["attrs" if isinstance(value, property) else "methods"].add(name)
            if getattr(functions[0], "_pyroOneway", False):
                found["oneway"].add(name)
    return found


def get_attribute(obj: object, attr: str) -> Any:
    """An exposed method of an object. Raises AttributeError for any other attribute."""
    refuse(is_private_attribute(attr), AttributeError, f"attempt to access private attribute '{attr}'")
    found = getattr(obj, attr)
    is_exposed = getattr(found, "_pyroExposed", False)
    refuse(not is_exposed, AttributeError, f"attempt to access unexposed attribute '{attr}'")
    return found


def get_exposed_property_value(obj: object, propname: str, only_exposed: bool = True, *value: object) -> Any:
    found = getattr(getattr(type(obj), propname, None), "fset" if value else "fget", None)
    if found is None or propname not in get_exposed_members(obj, only_exposed)["attrs"]:
        raise AttributeError(f"attempt to access unexposed or unknown remote attribute '{propname}'")
    return found(obj, *value)


def set_exposed_property_value(obj: object, propname: str, value: object, only_exposed: bool = True) -> Any:
    return get_exposed_property_value(obj, propname, only_exposed, value)


def wire_name(name: str) -> str:
    """The name under which the broker knows a member: of most dunder methods one of our own."""
    return f"dunder_{name.strip('_')}" if name.startswith("__") and name not in FORWARDED else name


def own_name(name: str) -> str:
    """The name of a member that the broker knows under another."""
    return f"__{name.removeprefix('dunder_')}__" if name.startswith("dunder_") else name
