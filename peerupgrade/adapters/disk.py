"""A node's own memory in a directory of its own.

Theory of operation: a raise waits until every node has it on its disk, so that must be quick. The
file has two slots, and what is saved overwrites the older one in place, with one write that returns
when the disk has it; a new file would need its data, its name and its directory written, one after
the other. Should the machine die meanwhile, that slot cannot be read, and the other one counts.

A process begins with a new file, and makes another one after any error, when nobody knows what the
disk has of the old one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from pathlib import Path

from peerupgrade.core.effects import Memory
from peerupgrade.errors import ConfigError, DataError
from peerupgrade.wire import MEMORY_HINT, memory_from_bytes, memory_to_bytes

_FILE = "memory"
# The number of the save, the sizes of what it saved and of the slot; a CRC-32 of these follows.
_HEAD = struct.Struct(">QII")
_CHECK = struct.Struct(">I")
_BESIDE_BYTES = _HEAD.size + _CHECK.size
_BLOCK_BYTES = 4096  # a write that is cut off damages no other block


class FileDisk:
    """`ports.Disk` in a directory that belongs to one node, and to one process at a time.

    Raises:
        ConfigError: another process has it, or it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._fd: int | None = None  # of the file that this process has made
        self._number = 0  # of the save
        self._slot_bytes = 0
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
        half, rest = divmod(len(data), 2)
        if rest or half % _BLOCK_BYTES or not half:
            raise DataError(f"{self._path} is cut off", hint=MEMORY_HINT)
        saved, failures = [], []
        for slot in (data[:half], data[half:]):
            try:
                saved.append(_read(slot))
            except DataError as error:
                failures.append(error)
        if not saved:
            raise DataError(f"{self._path}: {failures[0]}") from failures[0]
        return max(saved, key=lambda one: one[0])[1]

    def save(self, memory: Memory) -> None:
        """Write durably; on return it survives a crash of the machine.

        Raises:
            OSError: it could not be written; what was saved before is still there.
        """
        payload = memory_to_bytes(memory)
        try:
            if self._fd is None or _BESIDE_BYTES + len(payload) > self._slot_bytes:
                self._make(payload)
            else:
                number, size_bytes = self._number + 1, self._slot_bytes
                _write(self._fd, _slot(number, payload, size_bytes), number % 2 * size_bytes)
                self._number = number
        except OSError:
            self._forget()
            raise

    def _make(self, payload: bytes) -> None:
        """A new file whose first slot has the memory."""
        self._forget()
        blocks = -(-(_BESIDE_BYTES + len(payload)) // _BLOCK_BYTES)
        self._number, self._slot_bytes = 0, 2 * blocks * _BLOCK_BYTES  # room to grow
        slot = _slot(0, payload, self._slot_bytes)
        new = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DSYNC
        self._fd = os.open(new, flags, 0o600)
        _write(self._fd, slot.ljust(2 * self._slot_bytes, b"\0"), 0)
        os.fsync(self._fd)
        new.replace(self._path)
        os.fsync(self._directory_fd)  # else the new name may be lost

    def _forget(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Let another process have the directory."""
        self._forget()
        os.close(self._directory_fd)


def _slot(number: int, payload: bytes, slot_bytes: int) -> bytes:
    head = _HEAD.pack(number, len(payload), slot_bytes)
    return head + _CHECK.pack(zlib.crc32(head)) + payload


def _read(slot: bytes) -> tuple[int, Memory]:
    head, payload = slot[: _HEAD.size], slot[_BESIDE_BYTES:]
    if _CHECK.unpack_from(slot, _HEAD.size) != (zlib.crc32(head),):
        raise DataError("the memory is damaged, its checksum differs", hint=MEMORY_HINT)
    number, size, slot_bytes = _HEAD.unpack(head)
    if slot_bytes != len(slot):
        raise DataError("the memory is cut off", hint=MEMORY_HINT)
    return number, memory_from_bytes(payload[:size])


def _write(fd: int, data: bytes, at: int) -> None:
    if os.pwrite(fd, data, at) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
