"""The call engine, and the two ends that put it on gRPC.

    frames        one gRPC message of a connection and its frames
    reading       a message taken apart; plain calls and results by hand
    writing       and these written
    outbox        what is ready to go, coalesced; big values in chunks under credit
    refusals      why a call was not carried out: one table for wire, gRPC and Python
    chains        who waits in this process, so that a nested call runs on the thread that waits for it
    calls         one call: what is asked, the side that waits, the side that answers
    timers        the one thread that watches deadlines, lingering and slow peers
    workers       the threads that run methods
    forks         brings the threads that read out of gRPC while the process forks

A connection, without sockets and gRPC:

    introduction  versions, and what each side grants the other
    line          the way out: the outbox, what waits for room, slow peers; the one lock of the connection
    assemblies    big values that arrive in chunks
    exports       objects of one side that the other holds, counted
    item_sender   the items of a stream on their way out: what is ready goes together
    item_receiver the items of a stream that arrive, and the credit that goes back
    streams       the streams that answer calls of this side
    groups        plain calls that arrived together
    outgoing      calls that this side makes: credit, cancel, answers, loss
    incoming      calls that the other side makes: credit, refusals, cancel, replies
    engine        puts these together: which frame goes to whom, and the end

On gRPC:

    channels      client options of gRPC in one place
    probe         what listens on a port that is no broker
    statuses      a refusal as a gRPC status with details
    opening       how a connection comes about
    client        the end that connects: one connection to each daemon
    server        the end that is connected to
    near          from TCP to the Unix socket beside it: offers and proofs
    near_server   what serves there
    private_socket  where it lies
    sockets       messages on it, without gRPC
    inbox         how they are cut out of what arrives
    watch         threads that wait for sockets

Without it:

    local         both ends in one process
"""
