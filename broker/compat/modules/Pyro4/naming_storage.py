from broker.compat.storage import SqlStorage
