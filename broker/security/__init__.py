"""Who is at the other end, and what he may do.

    files           files that are read again when they change
    credentials     what one end shows of itself, and what it believes: certificates, tokens
    tokens          who shows a token: from a file, from a JWT, from the same user of this machine
    accounts        to whose account a caller's connections, calls and wrong tokens go
    guesses         who shows too many wrong tokens
    identification  the one answer to "who calls?", for every gRPC method of a server
    authorization   the function that decides about each call
    policy          such a function: what an identity may call, from a file
    defaults        the same from the configuration, for who does not say
    audit           one line for each refusal

Nothing here knows of connections, objects or calls.
"""

from broker.security.accounts import account_of, address_of
from broker.security.audit import is_suspicious, log_refusal, wants_refusal
from broker.security.authorization import Authorize, is_allowed
from broker.security.credentials import Acceptor, Credentials, InvalidCredentials, audience_of
from broker.security.defaults import default_credentials, default_policy
from broker.security.guesses import Guesses
from broker.security.identification import Identification, Unidentified, bearer_metadata
from broker.security.policy import InvalidPolicy, NameRules, Policy
from broker.security.tokens import JWTs, SameUser, Tokens, hashed

__all__ = [
    "Acceptor",
    "Authorize",
    "Credentials",
    "Guesses",
    "Identification",
    "InvalidCredentials",
    "InvalidPolicy",
    "JWTs",
    "NameRules",
    "Policy",
    "SameUser",
    "Tokens",
    "Unidentified",
    "account_of",
    "address_of",
    "audience_of",
    "bearer_metadata",
    "default_credentials",
    "default_policy",
    "hashed",
    "is_allowed",
    "is_suspicious",
    "log_refusal",
    "wants_refusal",
]
