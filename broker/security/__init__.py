"""Who is at the other end, and what he may do.

    files           files that are read again when they change
    credentials     what one end shows of itself, and what it believes: certificates, tokens
    tokens          who shows a token: from a file, from a JWT, from the same user of this machine
    identification  the one answer to "who calls?", for every gRPC method of a server
    authorization   the function that decides about each call
    policy          such a function: what an identity may call, from a file
    audit           one line for each refusal

Nothing here knows of connections, objects or calls.
"""

from broker.security.audit import log_refusal, wants_refusal
from broker.security.authorization import Authorize, is_allowed
from broker.security.credentials import Acceptor, Credentials, InvalidCredentials, default_credentials
from broker.security.identification import Identification, Unidentified, bearer_metadata
from broker.security.policy import InvalidPolicy, NameRules, Policy

__all__ = [
    "Acceptor",
    "Authorize",
    "Credentials",
    "Identification",
    "InvalidCredentials",
    "InvalidPolicy",
    "NameRules",
    "Policy",
    "Unidentified",
    "bearer_metadata",
    "default_credentials",
    "is_allowed",
    "log_refusal",
    "wants_refusal",
]
