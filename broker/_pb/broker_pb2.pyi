from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LookupRequest(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: str
    def __init__(self, object: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("object", "type", "doc", "members", "fingerprint", "partial")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    object: str
    type: str
    doc: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    fingerprint: str
    partial: bool
    def __init__(self, object: _Optional[str] = ..., type: _Optional[str] = ..., doc: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., fingerprint: _Optional[str] = ..., partial: bool = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("name", "kind", "signature", "doc", "oneway", "writable", "stream", "parameters")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Member.Kind]
        METHOD: _ClassVar[Member.Kind]
        PROPERTY: _ClassVar[Member.Kind]
    KIND_UNSPECIFIED: Member.Kind
    METHOD: Member.Kind
    PROPERTY: Member.Kind
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    ONEWAY_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Member.Kind
    signature: str
    doc: str
    oneway: bool
    writable: bool
    stream: bool
    parameters: bytes
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Member.Kind, str]] = ..., signature: _Optional[str] = ..., doc: _Optional[str] = ..., oneway: bool = ..., writable: bool = ..., stream: bool = ..., parameters: _Optional[bytes] = ...) -> None: ...

class InvokeRequest(_message.Message):
    __slots__ = ("object", "method", "args", "kwargs", "access", "plain", "metadata", "encoded")
    class Access(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACCESS_UNSPECIFIED: _ClassVar[InvokeRequest.Access]
        SET: _ClassVar[InvokeRequest.Access]
    ACCESS_UNSPECIFIED: InvokeRequest.Access
    SET: InvokeRequest.Access
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping]] = ...) -> None: ...
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    object: str
    method: str
    args: _struct_pb2.ListValue
    kwargs: _struct_pb2.Struct
    access: InvokeRequest.Access
    plain: bool
    metadata: _containers.MessageMap[str, MetadataValue]
    encoded: Encoded
    def __init__(self, object: _Optional[str] = ..., method: _Optional[str] = ..., args: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., kwargs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., access: _Optional[_Union[InvokeRequest.Access, str]] = ..., plain: bool = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., encoded: _Optional[_Union[Encoded, _Mapping]] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("result", "exception", "encoded", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping]] = ...) -> None: ...
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    result: _struct_pb2.Value
    exception: RemoteException
    encoded: Encoded
    metadata: _containers.MessageMap[str, MetadataValue]
    def __init__(self, result: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., exception: _Optional[_Union[RemoteException, _Mapping]] = ..., encoded: _Optional[_Union[Encoded, _Mapping]] = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ...) -> None: ...

class RemoteException(_message.Message):
    __slots__ = ("type", "message", "traceback")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    traceback: str
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class MetadataValue(_message.Message):
    __slots__ = ("text", "data")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    text: str
    data: bytes
    def __init__(self, text: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Encoded(_message.Message):
    __slots__ = ("codec", "payload", "buffers", "sizes", "references")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    codec: str
    payload: bytes
    buffers: _containers.RepeatedScalarFieldContainer[bytes]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    def __init__(self, codec: _Optional[str] = ..., payload: _Optional[bytes] = ..., buffers: _Optional[_Iterable[bytes]] = ..., sizes: _Optional[_Iterable[int]] = ..., references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("number", "returned", "stream")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    number: int
    returned: bool
    stream: bool
    def __init__(self, number: _Optional[int] = ..., returned: bool = ..., stream: bool = ...) -> None: ...

class Frames(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("id", "optional", "reply", "hello", "welcome", "open", "opened", "close", "call", "result", "refused", "cancel", "item", "end", "credit", "chunk", "release", "ping", "pong", "goaway")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    GOAWAY_FIELD_NUMBER: _ClassVar[int]
    id: int
    optional: bool
    reply: bool
    hello: Hello
    welcome: Hello
    open: Open
    opened: Opened
    close: Close
    call: Call
    result: Result
    refused: Refusal
    cancel: Cancel
    item: Item
    end: End
    credit: Credit
    chunk: Chunk
    release: Release
    ping: Ping
    pong: Ping
    goaway: GoAway
    def __init__(self, id: _Optional[int] = ..., optional: bool = ..., reply: bool = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Hello, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., item: _Optional[_Union[Item, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Ping, _Mapping]] = ..., goaway: _Optional[_Union[GoAway, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("oldest_version", "newest_version", "process_id", "features", "codecs", "max_message_size", "call_credit", "chunk_credit", "chunk_size", "item_credit", "port", "offer", "proof")
    OLDEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CALL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_CREDIT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    ITEM_CREDIT_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    oldest_version: int
    newest_version: int
    process_id: bytes
    features: _containers.RepeatedScalarFieldContainer[str]
    codecs: _containers.RepeatedScalarFieldContainer[str]
    max_message_size: int
    call_credit: int
    chunk_credit: int
    chunk_size: int
    item_credit: int
    port: int
    offer: SocketOffer
    proof: SocketProof
    def __init__(self, oldest_version: _Optional[int] = ..., newest_version: _Optional[int] = ..., process_id: _Optional[bytes] = ..., features: _Optional[_Iterable[str]] = ..., codecs: _Optional[_Iterable[str]] = ..., max_message_size: _Optional[int] = ..., call_credit: _Optional[int] = ..., chunk_credit: _Optional[int] = ..., chunk_size: _Optional[int] = ..., item_credit: _Optional[int] = ..., port: _Optional[int] = ..., offer: _Optional[_Union[SocketOffer, _Mapping]] = ..., proof: _Optional[_Union[SocketProof, _Mapping]] = ...) -> None: ...

class SocketOffer(_message.Message):
    __slots__ = ("path", "ticket", "secret")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    path: str
    ticket: bytes
    secret: bytes
    def __init__(self, path: _Optional[str] = ..., ticket: _Optional[bytes] = ..., secret: _Optional[bytes] = ...) -> None: ...

class SocketProof(_message.Message):
    __slots__ = ("ticket", "nonce", "mac")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    nonce: bytes
    mac: bytes
    def __init__(self, ticket: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., mac: _Optional[bytes] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("handshake",)
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    handshake: Encoded
    def __init__(self, handshake: _Optional[_Union[Encoded, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("handshake", "refused")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    handshake: Encoded
    refused: Refusal
    def __init__(self, handshake: _Optional[_Union[Encoded, _Mapping]] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Call(_message.Message):
    __slots__ = ("object", "member", "kind", "session", "arguments", "oneway", "lane", "chain", "depth", "nested", "timeout_us", "metadata", "correlation_id", "idempotency_key", "batch")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Call.Kind]
        METHOD: _ClassVar[Call.Kind]
        GET: _ClassVar[Call.Kind]
        SET: _ClassVar[Call.Kind]
        DESCRIBE: _ClassVar[Call.Kind]
        BATCH: _ClassVar[Call.Kind]
        GREET: _ClassVar[Call.Kind]
    KIND_UNSPECIFIED: Call.Kind
    METHOD: Call.Kind
    GET: Call.Kind
    SET: Call.Kind
    DESCRIBE: Call.Kind
    BATCH: Call.Kind
    GREET: Call.Kind
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping]] = ...) -> None: ...
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ONEWAY_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    NESTED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    object: str
    member: str
    kind: Call.Kind
    session: int
    arguments: Encoded
    oneway: bool
    lane: int
    chain: bytes
    depth: int
    nested: bool
    timeout_us: int
    metadata: _containers.MessageMap[str, MetadataValue]
    correlation_id: bytes
    idempotency_key: bytes
    batch: Batch
    def __init__(self, object: _Optional[str] = ..., member: _Optional[str] = ..., kind: _Optional[_Union[Call.Kind, str]] = ..., session: _Optional[int] = ..., arguments: _Optional[_Union[Encoded, _Mapping]] = ..., oneway: bool = ..., lane: _Optional[int] = ..., chain: _Optional[bytes] = ..., depth: _Optional[int] = ..., nested: bool = ..., timeout_us: _Optional[int] = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., correlation_id: _Optional[bytes] = ..., idempotency_key: _Optional[bytes] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("members", "calls", "go_on")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    GO_ON_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedScalarFieldContainer[str]
    calls: _containers.RepeatedScalarFieldContainer[int]
    go_on: bool
    def __init__(self, members: _Optional[_Iterable[str]] = ..., calls: _Optional[_Iterable[int]] = ..., go_on: bool = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("value", "raised", "failed", "kept", "metadata", "stream")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetadataValue, _Mapping]] = ...) -> None: ...
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    value: Encoded
    raised: bool
    failed: Refusal
    kept: bool
    metadata: _containers.MessageMap[str, MetadataValue]
    stream: bool
    def __init__(self, value: _Optional[_Union[Encoded, _Mapping]] = ..., raised: bool = ..., failed: _Optional[_Union[Refusal, _Mapping]] = ..., kept: bool = ..., metadata: _Optional[_Mapping[str, MetadataValue]] = ..., stream: bool = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("value", "count")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    value: Encoded
    count: int
    def __init__(self, value: _Optional[_Union[Encoded, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("value", "raised", "failed")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RAISED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    value: Encoded
    raised: bool
    failed: Refusal
    def __init__(self, value: _Optional[_Union[Encoded, _Mapping]] = ..., raised: bool = ..., failed: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("calls", "bytes", "items", "taken")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    calls: int
    bytes: int
    items: int
    taken: int
    def __init__(self, calls: _Optional[int] = ..., bytes: _Optional[int] = ..., items: _Optional[int] = ..., taken: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("last_call", "reason", "protocol_error", "takes_nested")
    LAST_CALL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_ERROR_FIELD_NUMBER: _ClassVar[int]
    TAKES_NESTED_FIELD_NUMBER: _ClassVar[int]
    last_call: int
    reason: str
    protocol_error: bool
    takes_nested: bool
    def __init__(self, last_call: _Optional[int] = ..., reason: _Optional[str] = ..., protocol_error: bool = ..., takes_nested: bool = ...) -> None: ...
