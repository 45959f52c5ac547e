"""What the Redis adapters share: names of keys and channels, scripts, and cancelling."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from peerupgrade.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of everything that a cluster has; the braces put all of it into one slot."""

    cluster: str

    def __post_init__(self) -> None:
        if not self.cluster or set(self.cluster) & set("{}"):
            raise ConfigError(
                f"the cluster name {self.cluster!r} cannot be part of a key",
                hint="choose one that is not empty and has no { or }",
            )

    def _named(self, name: str) -> str:
        return f"pu:{{{self.cluster}}}:{name}"

    @property
    def record(self) -> str:
        """A hash: the cluster record, and what only the store's scripts need."""
        return self._named("record")

    @property
    def members(self) -> str:
        """A hash: id -> member."""
        return self._named("members")

    @property
    def excluded(self) -> str:
        """A hash: id -> tombstone."""
        return self._named("excluded")

    @property
    def history(self) -> str:
        """A stream."""
        return self._named("history")

    @property
    def lock(self) -> str:
        """The token of the master; on every lock server."""
        return self._named("lock")

    @property
    def epoch(self) -> str:
        """The highest epoch that a lock server was told."""
        return self._named("epoch")

    @property
    def control(self) -> tuple[str, ...]:
        """What every script about the record and the members is given."""
        return (self.record, self.members, self.excluded, self.history, self.lock)

    @property
    def collections(self) -> str:
        """A set: the names of all collections."""
        return self._named("collections")

    @property
    def steps(self) -> str:
        """A hash: the application's own steps of an upgrade, by their keys."""
        return self._named("steps")

    def records(self, collection: str) -> str:
        """A hash: key -> record."""
        return self._named(f"data:{collection}")

    def data(self, collection: str) -> tuple[str, ...]:
        """What every script about shared data is given, in the order of `_data.lua`."""
        parts = ("about", "expiry", "parked", "skipped")
        named = (self._named(f"{part}:{collection}") for part in parts)
        return (self.records(collection), *named, self.collections)

    @property
    def record_channel(self) -> str:
        """What every node listens to."""
        return self._named("record!")

    @property
    def members_channel(self) -> str:
        """What only the master listens to."""
        return self._named("members!")


class Script:
    """One script, known to the server by its hash and sent in full only where it is not."""

    def __init__(self, *files: str) -> None:
        folder = resources.files("peerupgrade.adapters") / "lua"
        self.source = "".join((folder / f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def cancellable() -> Iterator[Callable[[], None]]:
    """Raises a cancellation that came within and was swallowed: at its end, and when it is called.

    The library writes with `asyncio.wait_for`, which loses a cancellation in Python 3.11 when the
    write ends or fails at the same moment. Who waits for the end of the task would then wait for
    ever, because after a failure it would just be tried again.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()

    def check() -> None:
        if task.cancelling() > before:
            raise asyncio.CancelledError

    try:
        yield check
    finally:
        check()
