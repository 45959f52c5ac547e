"""`python -m peerupgrade` is `peerupgrade`."""

import sys

from peerupgrade.cli import main

sys.exit(main())
