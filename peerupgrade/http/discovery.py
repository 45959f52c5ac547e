"""How a command finds the nodes that run on the same machine, and the right to command them.

Each running node keeps one small file in a directory that only its user can enter. The file also
carries the token, so its owner needs to type nothing. Whoever finds the directory in other hands
must neither write a token into it nor send one to an address read from it, so both ends check it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from peerupgrade.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Running:
    """A node that runs on this machine, as this user."""

    cluster: str
    name: str
    url: str
    pid: int
    token: str = field(repr=False)


def publish(cluster: str, name: str, url: str, token: str) -> Path | None:
    """Let commands on this machine find this process's node.

    Returns:
        The file, for `withdraw`; None if a living process has published a node of this name.

    Raises:
        ConfigError: the directory belongs to somebody else, or others can enter it.
        OSError: it could not be written.
    """
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(directory)
    # Names cannot contain "@", so two nodes never get the same file.
    path = directory / f"{name}@{cluster}.json"
    other = _read(path)
    if other is not None and other.pid != os.getpid() and _alive(other.pid):
        return None  # the cluster will say which of the two has the name
    running = Running(cluster=cluster, name=name, url=url, pid=os.getpid(), token=token)
    descriptor, draft = tempfile.mkstemp(dir=directory)  # its mode is 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(running))
    Path(draft).replace(path)  # a reader sees the whole file or none
    return path


def withdraw(path: Path) -> None:
    """Remove the file, unless another process has put its own there meanwhile."""
    running = _read(path)
    if running is not None and running.pid == os.getpid():
        path.unlink(missing_ok=True)


def find() -> list[Running]:
    """Nodes whose processes are alive, by cluster and name.

    Raises:
        ConfigError: the directory belongs to somebody else, or others can enter it.
    """
    directory = _directory()
    if not directory.exists():
        return []
    _check(directory)
    read = [_read(path) for path in directory.glob("*.json")]
    return sorted(running for running in read if running is not None and _alive(running.pid))


def _directory() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "peerupgrade"
    return Path(tempfile.gettempdir()) / f"peerupgrade-{os.getuid()}"


def _check(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(
            f"{directory} is not a directory that only this user can enter",
            hint="remove it, or set XDG_RUNTIME_DIR to a directory of this user's own",
        )


def _read(path: Path) -> Running | None:
    """What the file says; None if it is gone or says something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or the number is somebody else's now
        return False
    return True
