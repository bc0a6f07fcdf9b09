"""Who is at the other end, and what he may do.

    files           files that are read again when they change
    credentials     what one end shows of itself, and what it believes: certificates, tokens
    tokens          who shows a token: from a file, from a JWT, from the same user of this machine
    identification  the one answer to "who calls?", for every gRPC method of a server
    policy          what an identity may call, from a file

Nothing here knows of connections, objects or calls.
"""

from broker.security.credentials import Credentials, InvalidCredentials, default_credentials
from broker.security.identification import Identification, Unidentified, bearer_metadata

__all__ = [
    "Credentials",
    "Identification",
    "InvalidCredentials",
    "Unidentified",
    "bearer_metadata",
    "default_credentials",
]
