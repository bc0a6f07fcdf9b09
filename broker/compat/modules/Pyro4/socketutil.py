from broker.compat.context import SocketConnection, family_str
from broker.compat.sockets import bind_unused_port as bindOnUnusedPort
from broker.compat.sockets import find_probably_unused_port as findProbablyUnusedPort
from broker.compat.sockets import getInterfaceAddress, getIpAddress, getIpVersion
