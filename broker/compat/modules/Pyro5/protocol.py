PROTOCOL_VERSION = 502
FLAGS_EXCEPTION, FLAGS_COMPRESSED, FLAGS_ONEWAY, FLAGS_BATCH = 1, 2, 4, 8
FLAGS_ITEMSTREAMRESULT, FLAGS_KEEPSERIALIZED, FLAGS_CORR_ID = 16, 32, 64


class SendingMessage:
    @staticmethod
    def ping(pyroConnection, hmac_key=None):
        pyroConnection.ping()


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(f"Pyro5.protocol.{name}: calls travel over gRPC, and there are no messages of Pyro's own")
