"""The name server: which object a name leads to.

    store     entries, in memory or in a sqlite file, with the same semantics
    watching  who watches the names, each with a bounded queue
    names     the rules: registrations, leases, expiry. No gRPC, its clock is given
    wire      the gRPC methods of NameRegistry, and refusals as gRPC statuses and back
    service   NameRegistry on a gRPC server
    forks     a fork waits for the questions under way
    link      one gRPC channel to a name server, with the caller's patience
    leases    what a daemon of this process has entered, and the renewal of it
    client    NameServer, what users hold
    discovery asking the network where a name server is, and answering
    locate    where the name server is; names and tags to URIs
    local     names without a server
    server    the name server as a whole, on a daemon

`store` and `names` know neither gRPC nor each other's inside; `server` alone knows Daemon.
"""

from typing import Final

OWN_NAME: Final = "Broker.NameServer"
"""The name, and the object id, of the name server itself."""
LEASE_TTL: Final = 15.0
"""Seconds that a lease lives without being renewed."""
RENEWALS_PER_TTL: Final = 4
"""Every 3.75 s: after a restart all names are back within the 5 seconds for which a lookup keeps asking."""
