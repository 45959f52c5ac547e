"""The keys that nodes of one cluster share: one seals, all of them open.

Theory of operation: a frame names its key by an id, the first bytes of a hash of the key, so a node
with several keys tries one only. A key is replaced without interruption by three steps, each done
on all nodes before the next: add the new one, use it, remove the old one.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable

from peerupgrade.errors import ConfigError, FrameError, FrameFault

KEY_BYTES = 32
ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
_KEYS_MAX = 16


class Key:
    """One key of AES-256-GCM.

    Attributes:
        id: names it in a frame; says nothing about the key.
        name: the id as people see it.
    """

    __slots__ = ("_cipher", "_invalid", "_secret", "id", "name")

    def __init__(self, secret: bytes) -> None:
        # Eight megabytes of memory, which a node without keys does not need.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        assert len(secret) == KEY_BYTES
        self._invalid = InvalidTag
        self._secret = secret
        self._cipher = AESGCM(secret)
        self.id = hashlib.sha256(b"peerupgrade key " + secret).digest()[:ID_BYTES]
        self.name = self.id.hex()

    def __repr__(self) -> str:
        return f"Key({self.name})"  # never what it is made of

    @classmethod
    def new(cls) -> Key:
        """A fresh one."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Key:
        """The key that a text holds.

        Raises:
            ConfigError: it holds none; the text is not repeated, it may be a key nearly right.
        """
        try:
            secret = b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise ConfigError(
                f"this is no key, which is {KEY_BYTES} bytes in base64",
                hint="make one with `peerupgrade keygen`",
            )
        return cls(secret)

    def to_text(self) -> str:
        """The key itself, for its file."""
        return b64encode(self._secret).decode()

    def seal(self, nonce: bytes, plain: bytes, header: bytes) -> bytes:
        """Encrypt `plain`, and let whoever opens it know that `header` is unchanged, too."""
        return self._cipher.encrypt(nonce, plain, header)

    def open(self, nonce: bytes, sealed: bytes | memoryview, header: bytes) -> bytes:
        """What was sealed.

        Raises:
            FrameError: it was changed, or sealed for another cluster.
        """
        try:
            return self._cipher.decrypt(nonce, sealed, header)
        except self._invalid:
            raise FrameError(
                FrameFault.NOT_AUTHENTIC, f"a frame was not sealed by key {self.name} like this"
            ) from None


class Keyring:
    """At least one key; the first one seals.

    Raises:
        ConfigError: there are none, too many, or two with one id.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        self._by_id = {key.id: key for key in self.keys}
        if not 1 <= len(self.keys) <= _KEYS_MAX:
            raise ConfigError(
                f"a keyring of {len(self.keys)} keys", hint=f"give between 1 and {_KEYS_MAX} keys"
            )
        if len(self._by_id) < len(self.keys):
            raise ConfigError("one key stands twice in the keyring", hint="remove one of the two")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(key.name for key in self.keys)})"

    @property
    def sealing(self) -> Key:
        """The key that seals."""
        return self.keys[0]

    def find(self, key_id: bytes) -> Key | None:
        """The key of this id; None if it is not in the keyring."""
        return self._by_id.get(key_id)

    def named(self, name: str) -> Key:
        """The key that people call so.

        Raises:
            ConfigError: there is none.
        """
        for key in self.keys:
            if key.name == name:
                return key
        known = ", ".join(key.name for key in self.keys)
        raise ConfigError(f"no key {name!r} in the keyring", hint=f"it has {known}")

    def adding(self, key: Key) -> Keyring:
        """With one more key, which opens and does not seal yet."""
        if key.id in self._by_id:
            raise ConfigError(f"key {key.name} is in the keyring", hint="nothing is to be done")
        return Keyring((*self.keys, key))

    def using(self, name: str) -> Keyring:
        """With another one sealing.

        Raises:
            ConfigError: there is no such key.
        """
        chosen = self.named(name)
        return Keyring((chosen, *(key for key in self.keys if key is not chosen)))

    def removing(self, name: str) -> Keyring:
        """Without one of them.

        Raises:
            ConfigError: there is no such key, or it is the one that seals.
        """
        doomed = self.named(name)
        if doomed is self.sealing:
            raise ConfigError(
                f"key {name} seals what this node sends",
                hint="let another key do that first, on all nodes: `peerupgrade keyring use KEY`",
            )
        return Keyring(key for key in self.keys if key is not doomed)
