"""`fake_node` is used by the tests of the command line, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
