from broker.compat import known_as
from broker.compat.naming import locate_ns, resolve, type_meta
from broker.compat.proxy import DAEMON_NAME, NAMESERVER_NAME
from broker.compat.proxy import ExceptionWrapper as _ExceptionWrapper
from broker.compat.uri import URI

from . import errors

known_as(__name__, URI)
