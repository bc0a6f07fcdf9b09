from broker.compat import known_as
from broker.compat.daemon import Daemon, DaemonObject, serve
from broker.compat.exposure import behavior, callback, expose, is_private_attribute, oneway

from . import client, core, errors

known_as(__name__, Daemon, DaemonObject)
