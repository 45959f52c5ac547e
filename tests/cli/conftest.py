"""The command line is tested against the HTTP tests' node."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "http"))
