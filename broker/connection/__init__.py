"""The call engine, and the two ends that put it on gRPC.

frames      one gRPC message of a connection and its frames
outbox      what is ready to go, coalesced; big values in chunks under credit
refusals    why a call was not carried out: one table for wire, gRPC and Python
chains      who waits in this process, so that a nested call runs on the thread that waits for it
engine      the connection: calls both ways, credit, cancel, loss. No sockets, no gRPC
timers      the one thread that watches deadlines, lingering and slow peers
workers     the threads that run methods
channels    client options of gRPC in one place
client      the end that connects
server      the end that is connected to
"""
