"""Which object answers to which typed service, and what its service looks like to whom."""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from broker.context import Client
from broker.exposure import MemberTable
from broker.objects import GENERATED, ObjectTable, Registration
from broker.schema import Schema, Service, schema_of, service_names
from broker.uri import URI

Allows = Callable[[Client, str, str], bool]
TYPES = "_types"
"""Ends the name of the message that holds those of a service."""
_MADE = re.compile(r"_[0-9a-f]{8}$")
"""Ends the names of services that are not the name of their object."""
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
        self._schemas: weakref.WeakKeyDictionary[MemberTable, Schema | None] = weakref.WeakKeyDictionary()
        self._version = 0
        self._by_service: tuple[int, Mapping[str, str]] = -1, {}  # this and the next with the version they are of
        self._of_all: tuple[int, list[str]] = -1, []

    def changed(self) -> None:
        """An object came or went, or a name of one."""
        self._version += 1

    # ---- calls

    def answers_to(self, service: str) -> bool:
        """Whether there is an object of that id, name or service."""
        return self._find(service, self._all_services) is not None

    def find(self, service: str) -> Target | None:
        """The object that answers to a service, by its id or a name, as it is or in the form that protobuf allows."""
        found = self._find(service, self._all_services) if service not in self._taken else None
        schema = self._schema(found[1]) if found is not None else None
        return Target(service, *found, schema) if found is not None and schema is not None else None

    def known(self, service: str) -> Target | None:
        """The same, unless hints would have to be read, or many names gone through: for threads that must not wait."""
        found = self._find(service, self._known_services) if service not in self._taken else None
        schema = self._schemas.get(found[1].table) if found is not None else None
        return Target(service, *found, schema) if found is not None and schema is not None else None

    def _find(self, service: str, others: Callable[[], Mapping[str, str]]) -> tuple[str, Registration] | None:
        registration = self._objects.find(service)
        if registration is not None:
            return service, registration
        name = others().get(service) if _MADE.search(service) else None
        registration = self._objects.find(name) if name is not None else None
        return (name, registration) if name is not None and registration is not None else None

    def _known_services(self) -> Mapping[str, str]:
        version, known = self._by_service
        return known if version == self._version else {}

    def _all_services(self) -> Mapping[str, str]:
        """The names of all services, with the ids and names of objects that they are made of."""
        version, known = self._by_service
        if version != self._version:
            version = self._version
            names = [*self._objects.registrations, *self._names()]
            known = {service: name for name in names for service in _two_names(name)}
            self._by_service = version, known
        return known

    def _schema(self, registration: Registration) -> Schema | None:
        """What the class looks like; None, with the fault in the log, if that cannot be found out."""
        table = registration.table
        if table in self._schemas:
            return self._schemas[table]
        try:
            schema = schema_of(table)
        except Exception:  # hints are any code
            _log.exception("%s has no typed service: its hints cannot be read", registration.where)
            schema = None
        with self._lock:
            is_first = table not in self._schemas
            self._schemas[table] = schema
        if is_first and schema is not None and schema.problems:
            lacking = "; ".join(map(str, schema.problems))
            _log.warning("%s: some members are not in its typed service: %s", registration.where, lacking)
        return schema

    def may_see(self, name: str, client: Client) -> bool:
        """Whether a caller may learn that there is an object of that id or name."""
        return self._allows is None or self._allows(client, name, "")

    def no_service(self, service: str) -> str:
        """Why there is no such service."""
        found = self._find(service, self._all_services)
        if found is not None:
            return f"{found[1].where} has no typed service: its hints cannot be read, as the log of the daemon says"
        return f"there is neither an object nor a service {service!r} at {self._objects.location}"

    # ---- reflection

    def services_for(self, client: Client) -> list[str]:
        """The services that a caller may see: of an object with names those, and its id if somebody has chosen it."""
        if self._allows is not None:
            return self._services(client)
        version, known = self._of_all
        if version != self._version:
            version = self._version
            known = self._services(client)
            self._of_all = version, known
        return known

    def _services(self, client: Client) -> list[str]:
        names_of: dict[str, list[str]] = {}
        for name, uri in self._names().items():
            names_of.setdefault(uri.object or "", []).append(name)
        shown = []
        for object_id in self._objects.registrations:
            if self.may_see(object_id, client):
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
        if target is None or not self.may_see(target.name, client):
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


@lru_cache(maxsize=16_384)
def _two_names(name: str) -> tuple[str, str]:
    """The service of an object, and its form without a package."""
    names = service_names(name)
    return names[0], names[-1]
