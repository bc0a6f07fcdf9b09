from broker.compat.context import CallContext as _CallContext
from broker.compat.context import current_context
