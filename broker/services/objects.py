"""Which object answers to which typed service, and what its service looks like to whom."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass

from broker.context import Client
from broker.exposure import MemberTable
from broker.objects import GENERATED, ObjectTable, Registration
from broker.schema import Schema, Service, schema_of, service_names
from broker.uri import URI

Allows = Callable[[Client, str, str], bool]
TYPES = "_types"
"""Ends the name of the message that holds those of a service."""
_log = logging.getLogger("broker")


@dataclass(frozen=True, slots=True)
class Target:
    """An object, by the id or the name that its service has been called by."""

    service: str
    name: str
    registration: Registration
    schema: Schema

    def is_oneway(self, member: str) -> bool:
        """Whether nobody is to wait for that member; its result is dropped where somebody has to."""
        found = self.registration.table.members.get(member)
        return found is not None and found.oneway

    def lacks(self, rpc: str, members: Collection[str] | None) -> str:
        """Why there is no such rpc, for a caller who may call these members (None: all)."""
        service = self.schema.under(self.service, members)
        where = self.registration.where
        for problem in service.problems:
            if rpc in (problem.member, f"get_{problem.member}", f"set_{problem.member}"):
                return (
                    f"{problem.member!r} of {where} is not in its typed service: {problem.reason}. "
                    "Call it by broker.v1.ObjectBroker/Invoke"
                )
        return f"{where} has no rpc {rpc!r} (it has: {', '.join(service.methods) or 'nothing'})"


class TypedObjects:
    """The objects of one daemon as services. Every method may be called from any thread."""

    def __init__(
        self, objects: ObjectTable, names: Callable[[], Mapping[str, URI]], allows: Allows | None, taken: Container[str]
    ) -> None:
        """`names` has what this daemon has published; `allows` says who may call what, None everybody; `taken` are
        services that no object can be."""
        self._objects = objects
        self._names = names
        self._allows = allows
        self._taken = taken
        self._lock = threading.Lock()
        self._told: weakref.WeakSet[MemberTable] = weakref.WeakSet()
        self._version = 0
        self._by_service: tuple[int, dict[str, str]] | None = None  # this and the next with the version they are of
        self._of_all: tuple[int, list[str]] | None = None

    def changed(self) -> None:
        """An object came or went, or a name of one."""
        self._version += 1

    # ---- calls

    def answers_to(self, service: str) -> bool:
        """Whether there is an object of that id, name or service."""
        return self._find(service) is not None

    def find(self, service: str) -> Target | None:
        """The object that answers to a service, by its id or a name, as it is or in the form that protobuf allows."""
        if service in self._taken:
            return None
        found = self._find(service)
        schema = self._schema(found[1]) if found is not None else None
        return Target(service, *found, schema) if found is not None and schema is not None else None

    def _find(self, service: str) -> tuple[str, Registration] | None:
        registration = self._objects.find(service)
        if registration is not None:
            return service, registration
        name = self._all_services().get(service)
        registration = self._objects.find(name) if name is not None else None
        return (name, registration) if name is not None and registration is not None else None

    def _all_services(self) -> dict[str, str]:
        """The names of all services, with the ids and names of objects that they are made of."""
        version, known = self._version, self._by_service
        if known is not None and known[0] == version:
            return known[1]
        names = [*self._objects.registrations, *self._names()]
        found = {service: name for name in names for service in service_names(name)}
        self._by_service = version, found
        return found

    def _schema(self, registration: Registration) -> Schema | None:
        """What the class looks like; None, with the fault in the log, if that cannot be found out."""
        table = registration.table
        try:
            schema = schema_of(table)
        except Exception:  # hints are any code
            if self._first_time(table):
                _log.exception("%s has no typed service: its hints cannot be read", registration.where)
            return None
        if schema.problems and self._first_time(table):
            lacking = "; ".join(map(str, schema.problems))
            _log.warning("%s: some members are not in its typed service: %s", registration.where, lacking)
        return schema

    def _first_time(self, table: MemberTable) -> bool:
        with self._lock:
            first = table not in self._told
            self._told.add(table)
        return first

    # ---- reflection

    def services_for(self, client: Client) -> list[str]:
        """The services that a caller may see: of an object with names those, and its id if somebody has chosen it."""
        if self._allows is not None:
            return self._services(client)
        version, known = self._version, self._of_all
        if known is None or known[0] != version:
            known = self._of_all = version, self._services(client)
        return known[1]

    def _services(self, client: Client) -> list[str]:
        names_of: dict[str, list[str]] = {}
        for name, uri in self._names().items():
            names_of.setdefault(uri.object or "", []).append(name)
        shown = []
        for object_id in self._objects.registrations:
            if self._allows is None or self._allows(client, object_id, ""):
                names = names_of.get(object_id, [])
                shown += names if names and object_id.startswith(GENERATED) else [object_id, *names]
        return [service for service in side_by_side(shown) if service not in self._taken]

    def members_for(self, target: Target, client: Client) -> list[str] | None:
        """The members that a caller may call, and so see; None for all."""
        if self._allows is None:
            return None
        allows = self._allows
        return [member for member in target.registration.table.members if allows(client, target.name, member)]

    def service_for(self, name: str, client: Client) -> Service | None:
        """A service as a caller may see it; None if there is nothing that he may see."""
        target = self.find(name)
        if target is None or (self._allows is not None and not self._allows(client, target.name, "")):
            return None
        return target.schema.under(name, self.members_for(target, client))


def side_by_side(names: Iterable[str]) -> list[str]:
    """The services of these objects, so that one program can have all of them.

    protobuf does not let the service `a.b` stand beside the package `a.b`: beside an object `a.b`, `a.b.c` is shown in
    the form that has no package. It is called by either.
    """
    symbols: set[str] = set()
    packages: set[str] = set()
    shown = []
    for service, flat in sorted((_two_names(name) for name in set(names)), key=lambda two: (two[0].count("."), two)):
        own = {service, f"{service}{TYPES}"}
        around = {service[:place] for place, character in enumerate(service) if character == "."}
        if own & symbols or own & packages or around & symbols:
            service, own, around = flat, {flat, f"{flat}{TYPES}"}, set()
        symbols |= own
        packages |= around
        shown.append(service)
    return shown


def _two_names(name: str) -> tuple[str, str]:
    names = service_names(name)
    return names[0], names[-1]
