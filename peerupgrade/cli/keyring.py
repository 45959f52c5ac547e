"""The keys of gossip: `keygen`, `keyring list`, `add`, `use`, `remove`.

A key is never an argument, because arguments are visible to every user of the machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from getpass import getpass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from peerupgrade.cli.show import print_json, print_message, print_table
from peerupgrade.errors import ConfigError

if TYPE_CHECKING:
    from peerupgrade.adapters.keyring_file import KeyringFile
    from peerupgrade.wire.keyring import Key, Keyring

_KEY_CHARS_MAX = 1024


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The shared options.

    Attributes:
        keyring: the file.
        output: a table for people, or JSON for programs.
    """

    keyring: Annotated[str, Parameter(env_var="PEERUPGRADE_KEYRING")]
    output: Annotated[Literal["table", "json"], Parameter(name=("--output", "-o"))] = "table"

    @property
    def file(self) -> KeyringFile:
        """To read and write it."""
        from peerupgrade.adapters.keyring_file import KeyringFile

        return KeyringFile(self.keyring)


_Name = Annotated[str, Parameter(help="id of the key, as `keyring list` shows it.")]


def keygen() -> None:
    """Print a fresh key.

    For example:

        (umask 077; peerupgrade keygen > new.key)
    """
    from peerupgrade.wire.keyring import Key

    print(Key.new().to_text())


def list_(*, place: Place) -> None:
    """List the keys by their ids; a key itself is never shown.

    For example:

        peerupgrade keyring list --keyring gossip.keys
    """
    keyring = place.file.load()
    if place.output == "json":
        print_json(_as_json(keyring))
        return
    print_table(("KEY", "SEALS"), ((k.name, _yes(k is keyring.sealing)) for k in keyring.keys))


def add(
    *,
    new: Annotated[
        bool, Parameter(negative="", show_default=False, help="make a key instead of reading one.")
    ] = False,
    place: Place,
) -> None:
    """Add a key, read from the standard input, and print its id.

    It opens what others seal with it; `keyring use` lets it seal. The first key
    of a new file seals at once.

    For example:

        peerupgrade keyring add --keyring gossip.keys < new.key
        peerupgrade keyring add --new --keyring gossip.keys
    """
    from peerupgrade.wire.keyring import Key, Keyring

    key = Key.new() if new else _read_key()
    file = place.file
    with file.editing():
        keyring = file.load().adding(key) if file.path.exists() else Keyring([key])
        file.save(keyring)
    if key is keyring.sealing:
        _say(place, keyring, key, "seals: every node needs it, so copy the file")
    else:
        _say(place, keyring, key, "opens what others seal: add it on all nodes, then use it")


def use(key: _Name, /, *, place: Place) -> None:
    """Let another key seal, once every node has it.

    For example:

        peerupgrade keyring use 1a2b3c4d --keyring gossip.keys
    """
    file = place.file
    with file.editing():
        keyring = file.load().using(key)
        file.save(keyring)
    _say(place, keyring, keyring.sealing, "seals: use it on all nodes, then remove the old one")


def remove(key: _Name, /, *, place: Place) -> None:
    """Remove a key, once no node seals with it any more.

    For example:

        peerupgrade keyring remove 1a2b3c4d --keyring gossip.keys
    """
    file = place.file
    with file.editing():
        before = file.load()
        keyring = before.removing(key)
        file.save(keyring)
    _say(place, keyring, before.named(key), "is removed")


def _read_key() -> Key:
    from peerupgrade.wire.keyring import Key

    if sys.stdin.isatty():
        return Key.from_text(getpass("key: "))
    try:
        return Key.from_text(sys.stdin.read(_KEY_CHARS_MAX))
    except UnicodeDecodeError:
        raise ConfigError(
            "the standard input is no text", hint="give what `peerupgrade keygen` prints"
        ) from None


def _say(place: Place, keyring: Keyring, key: Key, what: str) -> None:
    if place.output == "json":
        print_json({"key": key.name, **_as_json(keyring)})
        return
    print(key.name)
    sealing = "" if key is keyring.sealing else f"; {keyring.sealing.name} seals"
    print_message(f"key {key.name} {what}{sealing}")


def _as_json(keyring: Keyring) -> dict[str, object]:
    return {"keys": [{"key": k.name, "seals": k is keyring.sealing} for k in keyring.keys]}


def _yes(value: bool) -> str:
    return "yes" if value else ""
