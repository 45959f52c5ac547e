"""The install step of an agent: JOURNAL NODE START FILE LOWEST. It imports little, to be quick."""

import json
import os
import sys
import time
from pathlib import Path

journal, node, start, path, lowest = sys.argv[1:]
version = os.environ["PEERUPGRADE_VERSION"]
new = Path(f"{path}.new")
new.write_text(version)
new.replace(path)
line = {
    "at_s": time.clock_gettime(time.CLOCK_BOOTTIME),
    "kind": "installed",
    "node": node,
    "start": int(start),
    "installed": version,
    "lowest": lowest,
}
fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(fd, json.dumps(line).encode() + b"\n")
