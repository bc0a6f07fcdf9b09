"""The calls of a client on their way out.

options     how a proxy calls
edge        what travels as a reference, and what arrives as a proxy
remote      one remote object, as a proxy sees it: place, connection, session, description
invocation  one call: what is asked, what is sent again, what comes of it
around      the functions around it
"""

from broker.calling.edge import Edge
from broker.calling.invocation import Invocation
from broker.calling.options import Options
from broker.calling.remote import Remote

__all__ = ["Edge", "Invocation", "Options", "Remote"]
