"""`python -m broker.schema`: see broker.exporting."""

import sys

from broker.exporting import main

sys.exit(main())
