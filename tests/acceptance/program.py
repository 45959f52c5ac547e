"""What an agent runs in the tests: says in a file what happens to it, until it is told to end.

program.py FILE RELEASE; a release `broken` ends at once, FILE.die makes a running one die.
"""

import os
import signal
import sys
import time
from pathlib import Path

told, release = Path(sys.argv[1]), sys.argv[2]


def tell(what):
    with told.open("a") as file:
        file.write(f"{what}\n")


def end(_number, _frame):
    tell(f"{release} told to end")
    if not Path(f"{told}.deaf").exists():
        sys.exit(0)


signal.signal(signal.SIGTERM, end)
acting = Path(os.environ["PEERUPGRADE_ACTING_FILE"]).read_text().strip()
tell(f"{release} runs at {os.environ['PEERUPGRADE_ACTING']} {acting} {os.getpid()}")
print(f"out of {release}", flush=True)
if Path(f"{told}.broken-{release}").exists():
    sys.exit(3)
while not Path(f"{told}.die").exists():
    time.sleep(0.02)
Path(f"{told}.die").unlink()
tell(f"{release} died")
sys.exit(4)
