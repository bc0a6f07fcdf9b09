"""The gRPC services that any client finds at a daemon: every object as a service of its own, the generic calls, health,
reflection.

    handler     all of them by their paths
    calls       a call of gRPC's threads on its way through the dispatcher
    invoke      the generic calls: Invoke, InvokeStream, Lookup
    typed       calls of typed services, with
    uploads       what clients stream
    headers       metadata in both directions
    raised        what a method raised as a gRPC status
    objects     which object answers to which service
    health      grpc.health.v1
    reflection  grpc.reflection.v1 and v1alpha, which show
    visible       what one caller may see
    catalog       descriptors by file and symbol
"""

from broker.services.calls import MAX_REQUEST_SIZE
from broker.services.handler import Services

__all__ = ["MAX_REQUEST_SIZE", "Services"]
