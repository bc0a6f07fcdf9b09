"""The calls of a client on their way out.

options       how a proxy calls
edge          what travels as a reference, and what arrives as a proxy
remote        one remote object, as a proxy sees it: place, connection, session, description
reconnecting  what happens when its connection was lost
backoff       how long to wait before it is tried again, and whom not to try first
departures    calls that wait for a connection, and their order
exported      a remote for an exported object of the other side
streams       results that arrive item by item
passed        iterators that were passed, as an argument or anywhere in a value
serving       what comes back: calls of the objects that this process exports
invocation    one call: what is asked, what is sent again, what comes of it
driven        calls that no thread waits for: futures has futures of them, tasks what coroutines await
gathered      what a batch sends, and results what its caller gets
around        the functions around it; around_futures has them for futures
"""

from broker.calling import passed, serving
from broker.calling.edge import Edge, ServingEdge
from broker.calling.exported import ExportedRemote
from broker.calling.invocation import Invocation
from broker.calling.options import Options
from broker.calling.remote import Remote
from broker.calling.tasks import in_thread, invoke_async

__all__ = [
    "Edge",
    "ExportedRemote",
    "Invocation",
    "Options",
    "Remote",
    "ServingEdge",
    "in_thread",
    "invoke_async",
    "passed",
    "serving",
]
