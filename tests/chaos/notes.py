"""Shared records of a collection, written in the format of each release and converted by the next.

A note has a number, which grows with each write of its writer, and the releases whose format it has
gone through since: so one that is converted twice shows, and one that was left out. An acknowledged
note counts until the store has lost writes: what becomes of acknowledged writes is not for
collections to say, but what conversions do to them is.
"""

import random

from tests.chaos.journal import now_s
from tests.chaos.release import Release

_NAME = "notes"
_SLOTS = 5
_WRITES_MAX = 10**6  # of one start


def _upgrade(version):
    return lambda note: {**note, "through": [*note["through"], version]}


def _downgrade(note):
    return {**note, "through": note["through"][:-1]}


class Notes:
    """The notes of one start of a writer, and what it reads of the others'.

    Args:
        node: not started yet.
        journal: for what was acknowledged and read.
        writer: whose notes these are.
        start: number of this start of the writer.
        installed, lowest: of its software.
    """

    def __init__(self, node, journal, writer, start, installed, lowest):
        self._journal, self._writer, self._seq = journal, writer, start * _WRITES_MAX
        self._notes = node.collection(_NAME)
        # The next one, too: it may be told in place that its software is newer.
        first, last = Release.of(lowest).number, Release.of(installed).next.number
        self._notes.format(f"1.{first}")
        for number in range(first + 1, last + 1):
            version = f"1.{number}"
            self._notes.format(version, upgrade=_upgrade(version), downgrade=_downgrade)

    async def write(self, version):
        """Write one note as a node that behaves as this version does."""
        self._seq += 1
        key, seq = f"{self._writer}-{self._seq % _SLOTS}", self._seq
        began_s = now_s()
        await self._notes.put(key, {"seq": seq, "through": [version]}, format=version)
        self._journal.write("noted", began_s=began_s, key=key, seq=seq)

    async def read(self, writer):
        """Read one note of another writer."""
        key = f"{writer}-{random.randrange(_SLOTS)}"
        began_s = now_s()
        record = await self._notes.get(key)
        if record is None:
            self._journal.write("note", began_s=began_s, key=key, seq=0, through=[])
            return
        # Behind the format in which it lies there, reading has brought it further.
        through = record.value["through"]
        stored = through[: through.index(record.format) + 1]
        self._journal.write(
            "note", began_s=began_s, key=key, seq=record.value["seq"], through=stored
        )
