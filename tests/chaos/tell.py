"""The on-acting command of an agent: PATH NODE START. It imports little, to be quick."""

import json
import os
import sys
import time

path, node, start = sys.argv[1:]
line = {
    "at_s": time.clock_gettime(time.CLOCK_BOOTTIME),
    "kind": "operates",
    "node": node,
    "start": int(start),
    "version": os.environ["PEERUPGRADE_ACTING"],
}
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(fd, json.dumps(line).encode() + b"\n")
