from broker.compat import known_as
from broker.compat.futures import BatchProxy
from broker.compat.proxy import Proxy, _RemoteMethod, _StreamResultIterator
from broker.compat.serializers import SerializedBlob

from . import callcontext, core, errors, serializers, socketutil

known_as(__name__, Proxy, BatchProxy, SerializedBlob)
