"""Whether a call is carried out: may the caller, is there such an object and member, is the codec accepted."""

from __future__ import annotations

from broker._pb.broker_pb2 import Call
from broker.connection import chains
from broker.connection.calls import MAX_BATCH
from broker.connection.refusals import Reason, Refused
from broker.context import Client
from broker.dispatch.job import Job
from broker.exports import ExportedObject, number_of
from broker.exposure import Member
from broker.objects import ObjectTable, Registration
from broker.security import Authorize, is_allowed

PICKLE = "pickle"
TYPED = "protobuf"
"""What stands for a codec in the calls of typed services."""
GREETINGS = "json"
"""The codec of what a session begins with."""


class Admission:
    """What is asked of every call before a byte of its arguments is decoded. It has no state of its own."""

    def __init__(
        self, objects: ObjectTable, codecs: tuple[str, ...], authorize: Authorize | None, *, knows_callers: bool
    ) -> None:
        """`knows_callers`: nobody may call whose identity is not known, whatever way the call came."""
        self._objects = objects
        self._codecs = codecs
        self._authorize = authorize
        self._knows_callers = knows_callers

    @property
    def asks(self) -> bool:
        """Whether somebody is asked about each call."""
        return self._authorize is not None

    @property
    def runs_user_code(self) -> bool:
        """Whether `refusal` has to be asked on a worker."""
        return self._authorize is not None and not getattr(self._authorize, "decides_at_once", False)

    @property
    def looks_at_callers(self) -> bool:
        """Whether anything is asked about callers at all."""
        return self._authorize is not None or self._knows_callers

    def lets_pass(self, job: Job, member: str) -> bool:
        """Whether the caller may, for calls of which all else is known."""
        return self._knows(job.client) and (self._authorize is None or self.not_allowed(job, member) is None)

    def _knows(self, client: Client) -> bool:
        """Whether the caller is known as far as that is asked."""
        return client.identity is not None or not self._knows_callers

    def accepts(self, codec: str) -> bool:
        """Whether calls may come in that codec."""
        return codec in self._codecs

    def stranger(self, job: Job) -> Refused | None:
        """Why nobody looks at the call, if it has to be known who calls."""
        if self._knows(job.client):
            return None
        what = f"{self._objects.location} has to know who calls, and does not know {job.client.address}"
        return Refused(Reason.UNAUTHENTICATED, what)

    def unread_greeting(self, job: Job) -> Refused | None:
        """Why nobody reads the greeting, if the job is one: it comes before anything is known of who sends it."""
        request = job.call.request
        if request.kind != Call.GREET or request.arguments.codec == GREETINGS:
            return None
        what = f"a greeting is read in {GREETINGS} at {self._objects.location}, whatever calls may be in, and not in "
        return Refused(Reason.CODEC_NOT_ACCEPTED, what + repr(request.arguments.codec))

    def refusal(self, job: Job) -> Refused | None:
        """Why the call is not carried out; else the job knows its object and its member."""
        request = job.call.request
        is_batch = request.kind == Call.BATCH
        refused = None
        if self._authorize is not None and not is_batch:
            refused = self.not_allowed(job, request.member)
        if refused is None and request.depth > chains.MAX_DEPTH:
            refused = self._too_deep(job)
        return refused or (self._batch_refusal(job) if is_batch else self._without_target(job))

    def _batch_refusal(self, job: Job) -> Refused | None:
        """The calls of a batch are asked about one by one, as they come; this is what none of them could pass.

        Who may not call is told nothing else, here too.
        """
        batch = job.call.request.batch
        assert batch is not None
        if len(batch.calls) > MAX_BATCH:
            what = f"a batch holds at most {MAX_BATCH} calls, and one of {len(batch.calls)} arrived"
            return Refused(Reason.OVERLOADED, what)
        if not batch.calls or max(batch.calls) >= len(batch.members):
            return Refused(Reason.CODEC, "the batch: it is empty, or calls a method that it does not name")
        refused = self._without_object(job) or self._without_codec(job)
        return refused and (self.not_allowed(job, batch.members[batch.calls[0]]) or refused)

    def not_allowed(self, job: Job, member: str) -> Refused | None:
        """Why the caller may not call that member, if so."""
        if self._authorize is None:
            return None
        object_name = job.object_name = job.object_name or self._objects.known_as(job.call.request.object)
        if is_allowed(self._authorize, job.client, object_name, member):
            return None
        what = f"{job.client} may not call {repr(member) if member else 'anything'} of {object_name!r}"
        if job.client.codec == PICKLE:
            what += " in pickle"
        return Refused(Reason.ACCESS_DENIED, what)

    def allows(self, client: Client, object_id: str, member: str) -> bool:
        """Whether that caller may call that member; the empty name is that of the description. Runs user code."""
        if self._authorize is None:
            return True
        return is_allowed(self._authorize, client, self._objects.known_as(object_id), member)

    def _too_deep(self, job: Job) -> Refused:
        request = job.call.request
        return Refused(Reason.TOO_DEEP, chains.too_deep(request.object, request.member, request.chain))

    def _without_target(self, job: Job) -> Refused | None:
        request = job.call.request
        refused = self._without_object(job)
        if refused is not None or request.kind == Call.DESCRIBE:
            return refused
        assert job.registration is not None
        found = find_member(job.registration, request.member, request.kind)
        if isinstance(found, Refused):
            return found
        job.member = found
        return self._without_codec(job)

    def _without_object(self, job: Job) -> Refused | None:
        object_id = job.call.request.object
        job.registration = self._objects.find(object_id) or _exported(job)
        if job.registration is not None:
            return None
        return no_such_object(object_id, self._objects.location)

    def _without_codec(self, job: Job) -> Refused | None:
        name = job.call.request.arguments.codec
        if name in self._codecs:
            return None if name != PICKLE or self._believes(job) else self._pickle_from_nobody(job)
        if name == TYPED and job.caller is None:
            return None
        message = f"codec {name!r} is not accepted at {self._objects.location}, which takes "
        return Refused(Reason.CODEC_NOT_ACCEPTED, message + ", ".join(self._codecs))

    def _believes(self, job: Job) -> bool:
        """Whether what the caller pickled may be loaded, which may run anything.

        From somebody who is known if `authorize`, which sees the codec, has allowed the call; from this machine, where
        a daemon asks nobody who he is.
        """
        if job.client.identity is not None:
            return self._authorize is not None
        return not self._knows_callers and job.client.is_on_this_machine

    def _pickle_from_nobody(self, job: Job) -> Refused:
        what = f"pickle from {job.client} is not loaded at {self._objects.location}: it can run anything. It has to "
        way = "come from somebody whom credentials identify and authorize allows it, or from the same machine"
        return Refused(Reason.CODEC_NOT_ACCEPTED, what + way)


def no_such_object(object_id: str, location: str) -> Refused:
    what = f"there is no object {object_id!r} at {location} (it may have been unregistered)"
    return Refused(Reason.OBJECT_NOT_FOUND, what)


def _exported(job: Job) -> Registration | None:
    """The object that was exported to the caller, over the very connection that the call came by."""
    number = number_of(job.call.request.object)
    if number is None or job.caller is None:
        return None
    exported = job.caller.exports.find(number)
    return exported.registration if isinstance(exported, ExportedObject) else None


def find_member(registration: Registration, name: str, kind: int) -> Member | Refused:
    """The remote member of that name, for a call of that kind; or why there is none."""
    table, where = registration.table, registration.where
    try:
        if kind == Call.GET:
            return table.readable(name, where)
        if kind == Call.SET:
            return table.writable(name, where)
        return table.method(name, where)
    except AttributeError as error:
        return Refused(Reason.MEMBER_NOT_FOUND, str(error))
    except TypeError as error:
        return Refused(Reason.UNSUPPORTED_OPERATION, str(error))
