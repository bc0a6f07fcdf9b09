from broker.compat import known_as
from broker.compat.futures import Future, FutureResult
from broker.compat.proxy import ExceptionWrapper as _ExceptionWrapper

known_as(__name__, Future, FutureResult)
