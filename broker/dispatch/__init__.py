"""A call's way through a daemon, from its arrival to its answer.

Every kind of call passes here: frames of a connection, and unary calls of any gRPC client. No gRPC in these files.

    arrival → lane (order of one caller's thread) → may the caller? → object → member → codec
            → gate (max_concurrency) → thread → decode → arguments fit? → invoke → answer → lane and gate are left

    job         a call on its way
    under_way   the calls that are not answered, and the sessions that end behind them
    admission   may the caller? object, member, codec
    scheduling  lanes, gates and threads: when and where a call runs
    answers     the one answer of a call
    execution   decode, invoke
    around      the functions around it
    dispatcher  puts these together
"""

from broker.dispatch.admission import Authorize
from broker.dispatch.dispatcher import Dispatcher

__all__ = ["Authorize", "Dispatcher"]
