"""Whether a call is carried out: may the caller, is there such an object and member, is the codec accepted."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker._pb.broker_pb2 import Call
from broker.connection import chains
from broker.connection.refusals import Reason, Refused
from broker.context import Client
from broker.dispatch.job import Job
from broker.exports import ExportedObject, number_of
from broker.exposure import Member
from broker.objects import ObjectTable, Registration

Authorize = Callable[[Client, str, str], bool]
_log = logging.getLogger("broker")


class Admission:
    """What is asked of every call before a byte of its arguments is decoded. It has no state of its own."""

    def __init__(self, objects: ObjectTable, codecs: tuple[str, ...], authorize: Authorize | None) -> None:
        self._objects = objects
        self._codecs = codecs
        self._authorize = authorize

    @property
    def runs_user_code(self) -> bool:
        """Whether `refusal` has to be asked on a worker."""
        return self._authorize is not None

    def refusal(self, job: Job) -> Refused | None:
        """Why the call is not carried out; else the job knows its object and its member."""
        refused = self._not_allowed(job) if self._authorize is not None else None
        if refused is None and job.call.request.depth > chains.MAX_DEPTH:
            refused = self._too_deep(job)
        return refused or self._without_target(job)

    def _not_allowed(self, job: Job) -> Refused | None:
        if self._authorize is None:
            return None
        request = job.call.request
        try:
            allowed = self._authorize(job.client, request.object, request.member)
        except BaseException:  # whatever it raises, it has not allowed the call
            _log.exception("authorize failed; the call of %r is refused", request.member)
            allowed = False
        if allowed:
            return None
        what = f"{job.client.address} may not call {request.member!r} of {request.object!r}"
        return Refused(Reason.ACCESS_DENIED, what)

    def _too_deep(self, job: Job) -> Refused | None:
        request = job.call.request
        if request.depth <= chains.MAX_DEPTH:
            return None
        return Refused(Reason.TOO_DEEP, chains.too_deep(request.object, request.member, request.chain))

    def _without_target(self, job: Job) -> Refused | None:
        request = job.call.request
        registration = job.registration = self._objects.find(request.object) or _exported(job)
        if registration is None:
            where = self._objects.location
            what = f"there is no object {request.object!r} at {where} (it may have been unregistered)"
            return Refused(Reason.OBJECT_NOT_FOUND, what)
        if request.kind == Call.DESCRIBE:
            return None
        try:
            job.member = _find_member(registration, request.member, request.kind)
        except AttributeError as error:
            return Refused(Reason.MEMBER_NOT_FOUND, str(error))
        except TypeError as error:
            return Refused(Reason.UNSUPPORTED_OPERATION, str(error))
        if request.arguments.codec not in self._codecs:
            accepted = ", ".join(self._codecs)
            message = f"codec {request.arguments.codec!r} is not accepted at {self._objects.location}, which takes "
            return Refused(Reason.CODEC_NOT_ACCEPTED, message + accepted)
        return None


def _exported(job: Job) -> Registration | None:
    """The object that was exported to the caller, over the very connection that the call came by."""
    number = number_of(job.call.request.object)
    if number is None or job.caller is None:
        return None
    exported = job.caller.exports.find(number)
    return exported.registration if isinstance(exported, ExportedObject) else None


def _find_member(registration: Registration, name: str, kind: int) -> Member:
    table, where = registration.table, registration.where
    if kind == Call.GET:
        return table.readable(name, where)
    if kind == Call.SET:
        return table.writable(name, where)
    return table.method(name, where)
