"""The gRPC services that any client finds at a daemon: health, reflection, and every object as a service of its own.

handler     all of them by their paths
health      grpc.health.v1
reflection  grpc.reflection.v1 and v1alpha, over
catalog     descriptors by file and symbol
raised      what a method raised as a gRPC status
"""

from broker.services.handler import Services

__all__ = ["Services"]
