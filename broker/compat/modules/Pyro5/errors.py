from broker.compat import known_as
from broker.compat.errors import *

known_as(__name__, *CLASSES)
