"""Every object as a typed gRPC service, made of its hints and docstrings. No gRPC in here: descriptors and bytes.

    schema = schema_of(members_of(Warehouse))         # once for a class, and kept as long as the table is
    service = schema.named("example.warehouse")       # for each id or name; costs next to nothing
    service.file                                      # FileDescriptorProto with comments, for reflection
    method = service.methods["take"]
    args, kwargs = method.decode_request(data, edge)  # CodecError with the path to what is wrong
    data = method.encode_reply(value, edge)

`edge` decides about references to objects, as for the codecs. For a method with `client_streaming`, the first message
has the other arguments and each at most one item:

    args, kwargs = method.decode_request(first, edge, items=iterator)      # b"" where no message came
    method.decode_item(message, edge)                                      # for each message, the first one too

An object answers to all of `service_names(name)`: its name if protobuf allows it, and a flat form of it, by which
`a.b.c` can stand beside `a.b` in one program. docs/typed-services.md has the table of types.
"""

from __future__ import annotations

from broker.schema.names import flat_name, service_name, service_names
from broker.schema.service import Method, Problem, Schema, Service, schema_of

__all__ = [
    "Method",
    "Problem",
    "Schema",
    "Service",
    "flat_name",
    "schema_of",
    "service_name",
    "service_names",
]
