"""A node's own memory in a directory of its own."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from peerupgrade.core.effects import Memory
from peerupgrade.errors import ConfigError, DataError
from peerupgrade.wire import memory_from_bytes, memory_to_bytes

_FILE = "memory"


class FileDisk:
    """`ports.Disk` in a directory that belongs to one node, and to one process at a time.

    Raises:
        ConfigError: another process has it, or it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)  # it may have been there before, more open
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigError(
                f"the directory {directory} cannot be used ({error.strerror})",
                hint="name one that this user may create and write",
            ) from error
        try:
            # Ends with the process, however that ends.
            fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"the directory {directory} is in use by another process",
                hint="stop that one, or give each node an id and a directory of its own",
            ) from error

    def load(self) -> Memory:
        """What was saved last; an empty memory if nothing was.

        Raises:
            DataError: what is there cannot be read.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return Memory()
        except OSError as error:
            raise DataError(
                f"{self._path} cannot be read ({error.strerror})",
                hint="let this user read it, or mend the disk",
            ) from error
        try:
            return memory_from_bytes(data)
        except DataError as error:
            raise DataError(f"{self._path}: {error}") from error

    def save(self, memory: Memory) -> None:
        """Write durably; on return it survives a crash of the machine.

        Raises:
            OSError: it could not be written; what was saved before is still there.
        """
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(memory_to_bytes(memory))
            file.flush()
            os.fsync(fd)
        new.replace(self._path)
        os.fsync(self._directory_fd)  # else the new name may be lost

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._directory_fd)
