"""The program on each machine: it writes shared records all the while, and can convert them.

An operation is guarded as an application's is: it asks what it behaves as, then sends its write
under that, and is under way until the answer or a time-out. In between the process may be paused
for any time, and what it sent may still be on its way when it is dead.

A value is a number that is never written twice, and behind it the formats that it has been brought
through: `17 1.0 1.1`. So a conversion that is done twice, or over a newer write, shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from peerupgrade.core.effects import ConvertRecords, Drain, Drained, RecordsConverted
from peerupgrade.core.pace import Felt
from peerupgrade.core.requests import Conversion, Origin, Put, Reply, Stored, Write
from peerupgrade.core.versions import Version

if TYPE_CHECKING:
    from peerupgrade.sim.world import Machine, World

COLLECTION = "notes"
_KEYS = 6
_EVERY_S = (0.3, 2.5)
_THINKS_S = (0.0, 0.2)  # between asking what to behave as and sending
_CODEC_S = (0.0, 0.01)


@dataclass(slots=True)
class Operations:
    """Those of one process that are under way, by the version that they behave as."""

    running: Counter[Version] = field(default_factory=Counter)
    waiting: list[tuple[Version, Callable[[], None]]] = field(default_factory=list)

    def drained(self, version: Version) -> bool:
        """True when none of another version is under way (R15)."""
        return all(not count or other == version for other, count in self.running.items())

    def end(self, version: Version) -> None:
        """One is over: tell whoever has waited for that."""
        self.running[version] -= 1
        still = []
        for kept, tell in self.waiting:
            if self.drained(kept):
                tell()
            else:
                still.append((kept, tell))
        self.waiting = still


def formats(world: World, release: int) -> tuple[str, ...]:
    """What a release can read and write: its own format and that of the release before."""
    return world.config.versions[max(0, release - 1) : release + 1]


@dataclass(slots=True)
class Application:
    """All programs of a world; each machine has its operations in `operations`."""

    world: World
    rng: Random
    written: int = 0

    def begin(self, machine: Machine) -> None:
        """The process of a machine has started."""
        self._soon(machine, machine.life)

    def _soon(self, machine: Machine, life: int) -> None:
        self.world.agenda.after(self.rng.uniform(*_EVERY_S), partial(self._operate, machine, life))

    def _operate(self, machine: Machine, life: int) -> None:
        """Begin one operation, if the node operates; then the next one."""
        if machine.life != life or machine.node is None:
            return
        self._soon(machine, life)
        membership = machine.node.membership
        origin, version = membership.origin, membership.operating
        if machine.paused(self.world.agenda.now_s) or origin is None or version is None:
            return
        if self.world.lapsed(machine) or not self.world.config.writes:
            return
        machine.operations.running[version] += 1
        send = partial(self._send, machine, life, origin, version)
        self.world.agenda.after(self.rng.uniform(*_THINKS_S), send)

    def _send(self, machine: Machine, life: int, origin: Origin, version: Version) -> None:
        if machine.life != life:
            return
        if machine.paused(self.world.agenda.now_s):
            machine.backlog.append(partial(self._send, machine, life, origin, version))
            return
        self.written += 1
        key = f"k{self.rng.randrange(_KEYS)}"
        put = Put(key, str(version), f"{self.written} {version}".encode())
        request = Write(origin, COLLECTION, (put,))
        operations = machine.operations

        def answered(_: Reply) -> None:
            operations.end(version)

        self.world.network.ask_store(machine, request, answered)

    def drain(self, machine: Machine, effect: Drain) -> None:
        """R15: tell the node once operations of the older version have ended."""
        operations, version = machine.operations, effect.version
        tell = partial(self.world.conclude_later, machine, 0.0, effect, Drained(effect.attempt))
        if operations.drained(version):
            tell()
        else:
            operations.waiting.append((version, tell))

    def convert(self, machine: Machine, effect: ConvertRecords) -> None:
        """Run the codec."""
        done = tuple(
            _converted(self.world, key, record, effect.target, fails=machine.codec_fails)
            for key, record in effect.records
        )
        took_s = self.rng.uniform(*_CODEC_S)
        result = RecordsConverted(effect.call, done, took_s, Felt())
        self.world.conclude_later(machine, took_s, effect, result)


def _converted(world: World, key: str, record: Stored, target: str, *, fails: bool) -> Conversion:
    if fails:
        return Conversion(key, record.format, record.stamp, error="the codec failed")
    versions = world.config.versions
    steps = versions[versions.index(record.format) + 1 : versions.index(target) + 1]
    payload = " ".join([record.payload.decode(), *steps]).encode()
    return Conversion(key, record.format, record.stamp, payload)
