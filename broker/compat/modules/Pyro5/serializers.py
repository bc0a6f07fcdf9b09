from broker.compat.serializers import SerializerBase, serializers
