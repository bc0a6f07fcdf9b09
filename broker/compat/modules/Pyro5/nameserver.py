from broker.compat import known_as
from broker.compat.storage import MemoryStorage, SqlStorage
from broker.compat.naming import NameServer, NameServerDaemon, main, start_ns, start_ns_loop

from . import core, errors, server

known_as(__name__, NameServer, NameServerDaemon)

if __name__ == "__main__":
    main()
