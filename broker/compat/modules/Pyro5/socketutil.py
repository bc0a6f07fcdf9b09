from broker.compat.context import SocketConnection, family_str
from broker.compat.sockets import bind_unused_port, find_probably_unused_port, get_interface, get_ip_address
