"""What an observer knows of the shared data, beside what the store says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from peerupgrade.core.invariants import (
    Operating,
    converted_once,
    no_older_record,
    no_write_lost,
    records_readable,
)
from peerupgrade.core.requests import (
    Convert,
    NoShare,
    Put,
    Reply,
    Request,
    Resolve,
    Share,
    Stale,
    Stored,
    Write,
    Written,
)
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.application import COLLECTION
from peerupgrade.sim.servers import SimStore


def touches_records(request: Request) -> bool:
    """True if the records may be others afterwards."""
    return isinstance(request, Write | Convert | Resolve)


@dataclass(slots=True)
class Notes:
    """The numbers of the newest writes, as the store took them in."""

    newest: dict[str, int] = field(default_factory=dict)
    judged: dict[str, Stored] = field(default_factory=dict)  # records never change, others come

    def follow(self, store: SimStore, request: Request, reply: Reply) -> str | None:
        """Something was written; gives the invariant that this put to the test."""
        match request, reply:
            case Write(changes=changes), Written():
                for change in changes:
                    if isinstance(change, Put):
                        self.newest[change.key] = _number(_records(store)[change.key])
                return None
            case Write(), Stale():
                return "S9"  # else a record in an older format would appear behind the conversion
            case Convert(done=done), Share() | NoShare() if done:
                return "S11"
            case _:
                return None

    def forget(self, store: SimStore) -> None:
        """What the store has lost it has lost: from here on this is what was written."""
        self.newest = {key: _number(record) for key, record in _records(store).items()}
        self.judged.clear()

    def formats(self, store: SimStore) -> set[Version]:
        """Those of the records that lie in the store."""
        return {parse_version(record.format) for record in _records(store).values()}

    def problems(
        self,
        store: SimStore,
        data: Version | None,
        operating: Sequence[Operating],
        *,
        lasting: bool,
    ) -> Iterator[str | None]:
        """Judge what lies in the store, whatever its counters say.

        Args:
            store: whose records.
            data: the data version that a verified record promises.
            operating: the nodes that must be able to read.
            lasting: False once a single server has forgotten writes: nothing protects from that.
        """
        found = _records(store)
        formats = self.formats(store)
        if lasting:
            yield no_older_record(data, formats)
            yield records_readable(formats, operating)
        for key in self.newest.keys() - found.keys():
            yield no_write_lost(key, None, self.newest[key])
        for key, record in found.items():
            if self.judged.get(key) is record:
                continue
            self.judged[key] = record
            _, *steps = record.payload.decode().split()
            yield converted_once(key, list(map(parse_version, steps)), parse_version(record.format))
            yield no_write_lost(key, _number(record), self.newest.get(key))


def _records(store: SimStore) -> Mapping[str, Stored]:
    collection = store.state.collections.get(COLLECTION)
    return collection.records if collection is not None else {}


def _number(record: Stored) -> int:
    return int(record.payload.split()[0])
