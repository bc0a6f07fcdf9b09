from broker.compat import known_as
from broker.compat.configuration import config
from broker.compat.context import current_context
from broker.compat.daemon import Daemon, DaemonObject
from broker.compat.exposure import behavior, callback, expose, oneway
from broker.compat.futures import BatchProxy
from broker.compat.futures import BatchProxy as _BatchProxyAdapter
from broker.compat.futures import AsyncRemoteMethod as _AsyncRemoteMethod
from broker.compat.futures import asyncproxy, batch
from broker.compat.naming import locate_ns as _locateNS
from broker.compat.naming import resolve as _resolve
from broker.compat.proxy import Proxy, _RemoteMethod, _StreamResultIterator
from broker.compat.serializers import SerializedBlob
from broker.compat.uri import URI

known_as(__name__, URI, Proxy, Daemon, DaemonObject, SerializedBlob)
