"""One step of a node's turn, as its agent runs it here: the demo, which has the processes, does it.

In real life this is a command of the operator's own. The argument is where the demo listens for the
steps of this node.
"""

from __future__ import annotations

import os
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

_TIMEOUT_S = 60.0


def main() -> int:
    """Ask for the step, and say what came of it."""
    step, version = os.environ["PEERUPGRADE_STEP"], os.environ["PEERUPGRADE_VERSION"]
    request = Request(f"{sys.argv[1]}/{step}/{version}", method="POST")  # noqa: S310 - loopback
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the same
            print(answer.read().decode())
    except HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
