from broker.compat.modules.Pyro5.protocol import *
from broker.compat.modules.Pyro5.protocol import SendingMessage as Message
