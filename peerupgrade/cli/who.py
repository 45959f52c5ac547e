"""Who gives a command: shown to everyone, and written into the history."""

from __future__ import annotations

import getpass
import socket
from typing import Annotated, TypeAlias

from cyclopts import Parameter

By: TypeAlias = Annotated[str | None, Parameter(help="who you are; by default USER@HOST.")]


def who(by: str | None) -> str:
    """The author as given, else the user and the machine."""
    return by if by is not None else f"{getpass.getuser()}@{socket.gethostname()}"
