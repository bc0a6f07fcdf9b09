from broker.compat import known_as
from broker.compat.storage import MemoryStorage, SqlStorage
from broker.compat.naming import NameServer, NameServerDaemon, main, type_meta
from broker.compat.naming import locate_ns as locateNS
from broker.compat.naming import resolve
from broker.compat.naming import start_ns as startNS
from broker.compat.naming import start_ns_loop as startNSloop

known_as(__name__, NameServer, NameServerDaemon)

if __name__ == "__main__":
    main()
