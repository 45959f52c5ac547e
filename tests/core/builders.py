"""Short ways to make core values."""

from dataclasses import replace

from peerupgrade.core.record import ClusterRecord, Member, Snapshot, Standing
from peerupgrade.core.versions import parse_version

V = parse_version


def member(name, installed="1.0", *, lowest="0", standing=Standing.SERVING, **changes):
    made = Member(
        id=name,
        incarnation=1,
        token=f"token of {name}",
        installed=V(installed),
        lowest=V(lowest),
        standing=standing,
        seen=100,
        operating_revision=100,
    )
    return replace(made, **changes)


def record(acting="1.0", **changes):
    version = V(acting) if acting else None
    made = ClusterRecord(
        generation="g",
        revision=10,
        epoch=3,
        acting=version,
        floor=version,
        before=version,
        data=version,
        raised_revision=5,
        settled_revision=5,
        floor_revision=5,
        identity="server",
    )
    return replace(made, **changes)


def snapshot(the_record, *members, now_ms=1_000_000, **changes):
    made = Snapshot(
        record=the_record,
        members={one.id: one for one in members},
        members_revision=7,
        now_ms=now_ms,
        identity="server",
    )
    return replace(made, **changes)
