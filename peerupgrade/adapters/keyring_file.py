"""A keyring in a file: one key a line, in base64; the first one seals.

Theory of operation: the file is replaced as a whole, so whoever reads it sees the keys before or
after a change. A node looks every second whether it is another file by now. One that cannot be
read leaves the node with the keys that it has: a slip of an editor must not silence a cluster.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from peerupgrade.errors import ConfigError
from peerupgrade.wire.keyring import Key, Keyring

_log = logging.getLogger(__name__)

_HEAD = "# Keys of gossip; the first one seals, all of them open. See `peerupgrade keyring`.\n"
_BYTES_MAX = 16 * 1024

_Look: TypeAlias = tuple[int, int, int, int]


class KeyringFile:
    """The file of one keyring."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._looked: _Look | None = None

    def load(self) -> Keyring:
        """What it holds.

        Raises:
            ConfigError: it cannot be read, others may read it, or it holds something else.
        """
        self._looked = self._look()
        text = self._read()
        lines = [line.strip() for line in text.splitlines()]
        try:
            return Keyring(
                Key.from_text(line) for line in lines if line and not line.startswith("#")
            )
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error.args[0]}", hint=error.hint) from None

    def changed(self) -> Keyring | None:
        """What it holds by now; None if it is the file that was loaded last, or cannot be read.

        What is wrong is logged, once for each state of the file.
        """
        if self._look() == self._looked:
            return None
        try:
            keyring = self.load()
        except ConfigError as error:
            _log.error("the keys stay as they were: %s", error)
            return None
        _log.info("%s: now %d keys, %s seals", self.path, len(keyring.keys), keyring.sealing.name)
        return keyring

    def save(self, keyring: Keyring) -> None:
        """Replace it.

        Raises:
            ConfigError: it cannot be written; what was there is still there.
        """
        text = _HEAD + "".join(f"{key.to_text()}\n" for key in keyring.keys)
        try:
            fd, draft = tempfile.mkstemp(dir=self.path.parent)  # its mode is 0600
            try:
                with os.fdopen(fd, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(fd)
                Path(draft).replace(self.path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._error("cannot be written", error) from error

    @contextmanager
    def editing(self) -> Iterator[None]:
        """While this lasts nobody else edits a keyring in the same directory.

        Raises:
            ConfigError: there is no such directory.
        """
        try:
            fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._error("cannot be edited", error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read(_BYTES_MAX + 1)
        except OSError as error:
            raise self._error("cannot be read", error) from error
        if mode & 0o077:
            raise ConfigError(
                f"others may read the keyring {self.path}, its mode is {mode:04o}",
                hint=f"if nobody has: chmod 600 {self.path}; else make new keys",
            )
        if len(data) > _BYTES_MAX or not data.isascii():
            raise ConfigError(
                f"{self.path} is no keyring", hint="it has one key a line, as `keyring add` does it"
            )
        return data.decode("ascii")

    def _look(self) -> _Look | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode

    def _error(self, what: str, error: OSError) -> ConfigError:
        return ConfigError(
            f"the keyring {self.path} {what} ({error.strerror})",
            hint="make one with `peerupgrade keyring add --new --keyring FILE`",
        )
