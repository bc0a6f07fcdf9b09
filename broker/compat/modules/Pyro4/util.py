from broker.compat.errors import excepthook
from broker.compat.errors import format_traceback as formatTraceback
from broker.compat.errors import get_pyro_traceback as getPyroTraceback
from broker.compat.exposure import get_exposed_members, is_private_attribute
from broker.compat.serializers import SerializerBase, serializers


def get_serializer(name):
    return serializers[name]
