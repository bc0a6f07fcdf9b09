"""A call's way through a daemon, from its arrival to its answer.

Every kind of call passes here: frames of a connection, and unary calls of any gRPC client. No gRPC in these files.

    arrival → lane (order of one caller's thread) → may the caller? → object → member → codec
            → gate (max_concurrency) → thread → decode → arguments fit? → invoke → answer → lane and gate are left

    job         a call on its way
    under_way   the calls that are not answered, and the sessions that end behind them
    greetings   was the session admitted?
    admission   may the caller? object, member, codec
    scheduling  lanes, gates and threads: when and where a call runs
    answers     the one answer of a call
    execution   decode, invoke
    batches     the same for each call of a batch
    around      the functions around it
    rates       how many calls a second each caller may make
    statistics  what came of them, in numbers
    dispatcher  puts these together
    arrivals    what connections bring, on its way there
"""

from broker.dispatch.admission import TYPED
from broker.dispatch.arrivals import Arrivals, arrivals_at
from broker.dispatch.dispatcher import MAX_CALLS, MAX_CALLS_PER_CONNECTION, Dispatcher
from broker.dispatch.greetings import Admit
from broker.dispatch.statistics import Stats

__all__ = ["MAX_CALLS", "MAX_CALLS_PER_CONNECTION", "TYPED", "Admit", "Arrivals", "Dispatcher", "Stats", "arrivals_at"]
