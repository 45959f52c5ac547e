"""When two stages are the same: no node and no store could ever tell them apart.

Theory of operation: a stage is flattened into plain values and into values of a few *domains*,
where only comparisons matter. In a domain the numbers are replaced by smaller ones that compare
alike, so that two histories which led to the same situation are one:

    revision     ranks; above the store's own, where the lost ones are, their distance from it
    raised, floored
                 the revisions of a raise and of a floor: where they stand among the revisions
    operated, seen
                 what a member has confirmed: which raises, which floors
    epoch        ranks; neighbours stay neighbours, because the next one is one more
    members      the distance to the store's own counter
    verified, doubt
                 names of a verification, and of a doubt that runs: ranks
    attached     in which doubt a node has said what it remembers: whether that still runs
    incarnation, number of a request
                 ranks among those of one machine
    name         tokens, generations, server processes: numbered as they are met
    moment       milliseconds from now, nothing if it is over

Left out is what only people look at: history, reasons, times of the past; and what no stage has:
shared data, slots. A node's own part comes
first and decides the order of the nodes, so stages that differ in who is who are one, too.
"""

from __future__ import annotations

import marshal
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import partial
from hashlib import blake2b
from typing import Any

from peerupgrade.core.effects import Memory, Part, RunSteps, Timer
from peerupgrade.core.master import Master
from peerupgrade.core.mastership import Mastership
from peerupgrade.core.membership import EARLIER_TOKENS, Membership, NodeConfig
from peerupgrade.core.node import Node
from peerupgrade.core.record import ClusterRecord, Hold, Member, Snapshot, Tombstone, Upgrade
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    All,
    Attached,
    Beat,
    Claim,
    Claimed,
    Commit,
    Init,
    MemberHeard,
    Report,
    View,
)
from peerupgrade.core.store import LockState, StoreState
from peerupgrade.core.versions import Version
from peerupgrade.sim.stage import SOON_S, Host, Stage


class _Domain(IntEnum):
    """Where only comparisons matter."""

    REVISION = 0
    RAISED = 1
    FLOORED = 2
    OPERATED = 3
    SEEN = 4
    EPOCH = 5
    MEMBERS = 6
    VERIFIED = 7
    DOUBT = 8
    ATTACHED = 9
    MOMENT = 10
    NAME = 11
    INCARNATION = 12
    NUMBER = 13
    RANKED = 14
    PREVIOUS = 15


_SKIP, _PLAIN = -2, -1
_REV, _RAISED, _FLOORED, _OPERATED, _SEEN, _EPOCH, _MEMBERS, _VERIFIED, *_rest = _Domain
_DOUBT, _ATTACHED, _MOMENT, _NAME, _INC, _NUMBER, _RANKED, _PREVIOUS = _rest

# What is not named here is taken as it is.
_KINDS: dict[type, dict[str, int]] = {
    ClusterRecord: {
        "generation": _NAME, "revision": _REV, "epoch": _EPOCH, "master": _SKIP,
        "floor_revision": _SKIP, "raised_revision": _RAISED, "settled_revision": _OPERATED,
        "floor_at_ms": _SKIP, "raised_at_ms": _SKIP, "completion": _SKIP,
        "created_at_ms": _SKIP, "bootstrap_expect": _SKIP, "identity": _NAME, "doubt": _VERIFIED,
    },
    Hold: {"by": _SKIP, "reason": _SKIP, "at_ms": _SKIP, "until_ms": _MOMENT},
    Upgrade: {"started_at_ms": _SKIP},
    Member: {
        "id": _SKIP, "incarnation": _INC, "token": _NAME, "seen": _SEEN,
        "operating_revision": _OPERATED, "lease_until_ms": _MOMENT, "number": _NUMBER,
        "attached": _ATTACHED, "joined_at_ms": _SKIP, "changed_at_ms": _SKIP, "address": _SKIP,
        "health_since_ms": _SKIP,
        "gossip": _SKIP, "zone": _SKIP, "labels": _SKIP, "collections": _SKIP, "steps": _SKIP,
    },
    Tombstone: {"id": _SKIP, "incarnation": _INC, "token": _NAME, "by": _SKIP, "reason": _SKIP,
                "at_ms": _SKIP},
    Snapshot: {
        "members": _SKIP, "members_revision": _MEMBERS, "now_ms": _SKIP, "identity": _NAME,
        "quarantine_until_ms": _SKIP, "doubted_at_ms": _SKIP, "excluded": _SKIP,
        "slots": _SKIP, "collections": _SKIP, "steps": _SKIP,
    },
    StoreState: {
        "members": _SKIP, "excluded": _SKIP, "members_revision": _MEMBERS, "incarnations": _INC,
        "master_token": _NAME, "suspect": _SKIP, "quarantine_until_ms": _SKIP,
        "doubted_at_ms": _SKIP, "history": _SKIP, "slots": _SKIP, "collections": _SKIP,
        "steps": _SKIP,
    },
    LockState: {"token": _NAME, "until_ms": _MOMENT, "epoch": _EPOCH},
    Memory: {"record": _SKIP, "token": _NAME, "earlier": _PREVIOUS, "admitted_token": _NAME,
             "incarnation": _INC, "epoch": _EPOCH},
    View: {"identity": _NAME, "doubt": _DOUBT},
    NodeConfig: dict.fromkeys(
        ("id", "lease_s", "lease_margin_s", "address", "gossip", "zone", "labels", "collections",
         "steps", "installs", "bootstrap_expect", "quarantine_s"), _SKIP,
    ),
    Admit: {"id": _SKIP, "token": _NAME, "earlier": _PREVIOUS, "incarnation": _INC,
            "generation": _NAME, "number": _NUMBER, "address": _SKIP, "gossip": _SKIP,
            "zone": _SKIP, "labels": _SKIP, "collections": _SKIP, "steps": _SKIP},
    RunSteps: {"epoch": _EPOCH, "token": _NAME},
    Report: {"id": _SKIP, "incarnation": _INC, "generation": _NAME, "number": _NUMBER,
             "seen": _SEEN, "operating_revision": _OPERATED},
    Init: {"generation": _NAME},
    Claim: {"id": _SKIP, "token": _NAME, "epoch_floor": _EPOCH},
    Commit: {"token": _NAME, "epoch": _EPOCH, "revision": _REV, "members_revision": _MEMBERS,
             "inputs": _SKIP},
    Admitted: {"incarnation": _INC},
    Attached: {"incarnation": _INC},
    Claimed: {"epoch": _EPOCH},
    Beat: {
        "epoch": _EPOCH,
        "record_epoch": _EPOCH,
        "revision": _REV,
        "members_revision": _MEMBERS,
    },
    MemberHeard: {"id": _SKIP, "members_revision": _MEMBERS},
    Membership: {
        "memory": _SKIP, "rng": _SKIP, "timers": _SKIP, "reason": _SKIP, "refusal": _SKIP,
        "epoch_heard": _EPOCH,
        "lease_deadline_s": _SKIP, "store_failure": _SKIP, "store_failed_s": _SKIP,
        "now_s": _SKIP, "state_since_s": _SKIP, "_calls": _SKIP, "_attached_in": _ATTACHED,
        "_confirmed": _VERIFIED, "_retries": _SKIP, "_reported": _SKIP, "_switch_attempt": _SKIP,
        "_switch_failures": _SKIP, "_tried": _SKIP, "_operating_since": _SKIP,
    },
    Mastership: {
        "node_id": _SKIP, "servers": _SKIP, "ttl_s": _SKIP, "rng": _SKIP, "timers": _SKIP,
        "epoch": _EPOCH, "token": _NAME, "deadline_s": _SKIP, "epoch_known": _EPOCH,
        "quorum_lost_since_s": _SKIP, "master_seen_s": _SKIP, "_yields_until_s": _SKIP,
        "_round": _SKIP, "_started_s": _SKIP, "_votes": _SKIP,
    },
    Master: {
        "timers": _SKIP, "quarantine_s": _SKIP, "steps": _SKIP, "silent": _SKIP, "failed": _SKIP,
        "epoch": _EPOCH,
        "step_failure": _SKIP, "_token": _NAME, "_read_at_s": _SKIP,
        "_calls": _SKIP, "_not_before_s": _SKIP, "_deaf_until_s": _SKIP, "_doubt": _SKIP,
        "_doubt_since_s": _SKIP, "_data_read": _RAISED, "_audit_of": _SKIP, "_audited": _SKIP,
        "_data_durable_of": _SKIP, "_proves": _SKIP, "_sure": _SKIP, "_slots_not_before_s": _SKIP,
    },
}  # fmt: skip


class _Flat:
    """A value in pieces: what is plain, and what lies in a domain."""

    __slots__ = ("domains", "plain", "values")

    def __init__(self) -> None:
        self.plain: list[object] = []
        self.domains: list[int] = []
        self.values: list[Any] = []

    def extend(self, other: _Flat) -> None:
        """Add all of another one."""
        self.plain += other.plain
        self.domains += other.domains
        self.values += other.values

    def mark(self, domain: int, value: Any) -> None:
        """Add one value of a domain."""
        self.domains.append(domain)
        self.values.append(value)

    def add(self, value: Any) -> None:
        """Add a value, taken apart."""
        kind = type(value)
        if kind in _AS_IT_IS:
            self.plain.append(value)
        elif kind is Version:
            self.plain.append(value.text)
        elif kind is tuple:
            self.plain.append(len(value))
            for part in value:
                self.add(part)
        elif kind in _LASTING:
            self.extend(_remembered(value))
        elif isinstance(value, str):  # one of an enumeration
            self.plain.append(str(value))
        else:
            self.take_apart(value)

    def take_apart(self, value: Any) -> None:
        """Add a value field by field."""
        kind = type(value)
        self.plain.append(kind.__name__)
        for name, domain in _plan(kind):
            if domain == _PLAIN:
                self.add(getattr(value, name))
            elif name == "earlier":  # as many places as there can be: see `_known_only`
                for token in (*value.earlier, *[""] * EARLIER_TOKENS)[:EARLIER_TOKENS]:
                    self.mark(domain, token)
            else:
                self.mark(domain, getattr(value, name))
        if kind is ClusterRecord and value.raising:  # of no meaning otherwise
            self.mark(_FLOORED, value.floor_revision)
        elif kind is Snapshot and not value.verified:
            self.mark(_DOUBT, value.quarantine_until_ms)


_AS_IT_IS = frozenset((int, bool, str, type(None)))
# Values that are shared by many stages: taken apart once.
_LASTING = frozenset((ClusterRecord, Member, View, Memory, Snapshot, Tombstone))
_LASTING_MAX = 100_000
_known: dict[int, tuple[object, _Flat]] = {}


def _remembered(value: object) -> _Flat:
    known = _known.get(id(value))
    if known is not None:
        return known[1]
    if len(_known) >= _LASTING_MAX:
        _known.clear()
    flat = _Flat()
    flat.take_apart(value)
    _known[id(value)] = (value, flat)
    return flat


_plans: dict[type, list[tuple[str, int]]] = {}


def _plan(kind: type) -> list[tuple[str, int]]:
    plan = _plans.get(kind)
    if plan is not None:
        return plan
    kinds = _KINDS.get(kind, {})
    named = [(one.name, int(kinds.get(one.name, _PLAIN))) for one in fields(kind)]
    _plans[kind] = [(name, domain) for name, domain in named if domain != _SKIP]
    return _plans[kind]


# --- the parts of a stage -------------------------------------------------------------------------


def _host(stage: Stage, host: Host) -> _Flat:
    """What a machine knows and waits for, without a word of who it is."""
    flat = _Flat()
    flat.add(host.installed)
    flat.add(host.disk)
    flat.plain += [host.disk_lost, host.paused, host.stalled, host.ended]
    flat.plain.append(host.slept_at_call is None)
    for asked in host.asked:
        alive = host.node is not None and asked.life == host.life
        flat.add(alive and _awaited(host, asked.call.part, asked.call.call))
        flat.add(asked.call.part)
        flat.add(asked.call.request)
    for reply in host.replies:
        flat.add(_awaited(host, reply.part, reply.call))
        flat.add(reply.part)
        flat.add(reply.reply)
    flat.add((host.saving, host.preparing, host.watching, host.news, host.changes))
    if host.node is not None:
        _node(stage, host, host.node, flat)
    return flat


def _awaited(host: Host, part: Part, call: int) -> bool:
    assert host.node is not None
    machine: object = host.node.mastership
    if part is not Part.MASTERSHIP:
        machine = host.node.membership if part is Part.MEMBERSHIP else host.node.master
    name = "_round" if part is Part.MASTERSHIP else "_calls"
    return bool(getattr(machine, name) == call)


def _node(stage: Stage, host: Host, node: Node, flat: _Flat) -> None:
    membership, mastership, master = node.membership, node.mastership, node.master
    flat.take_apart(membership)
    attempt, reported, tried = _hidden(membership, "_switch_attempt", "_reported", "_tried")
    flat.add((reported.standing, reported.operating, reported.failure))
    flat.mark(_SEEN, reported.seen)
    flat.mark(_OPERATED, reported.operating_revision)
    if membership.memory is not host.disk:
        flat.add(membership.memory)
    generation, revision, epoch, identity = tried
    flat.plain += [attempt == host.switching, attempt == host.draining, revision < 0]
    if revision >= 0:
        flat.mark(_NAME, generation)
        flat.mark(_REV, revision)
        flat.mark(_EPOCH, epoch)
        flat.mark(_NAME, identity)
    now_s = stage.clock_s
    flat.take_apart(mastership)
    (yields_until_s,) = _hidden(mastership, "_yields_until_s")
    flat.plain += [yields_until_s > now_s, mastership.must_step_down(now_s)]
    doubt, doubt_since_s, not_before_s, deaf_until_s, watching = _hidden(
        master, "_doubt", "_doubt_since_s", "_not_before_s", "_deaf_until_s", "_watching"
    )
    if membership.view is None or not membership.view.verified:
        flat.plain.append(doubt_since_s + master.quarantine_s > now_s)
        flat.mark(_ATTACHED, doubt)
    if master.epoch:
        flat.take_apart(master)
        flat.plain += [not_before_s > now_s, not watching and deaf_until_s > now_s]
    for timer in sorted(host.timers.values(), key=lambda timer: timer.timer):
        if timer.timer not in _IMPLIED and timer.at_s <= now_s + SOON_S:
            flat.plain.append(str(timer.timer))


# Timers that fire by the clock alone, and that every node has which needs one.
_IMPLIED = (Timer.EXTEND, Timer.STEP_DOWN, Timer.ROUND, Timer.RETRY_STORE, Timer.CONTEND)


def _hidden(machine: object, *names: str) -> list[Any]:
    return [getattr(machine, name) for name in names]


def _store(state: StoreState, identity: str) -> _Flat:
    flat = _Flat()
    flat.take_apart(state)
    if state.record is None or state.record.identity != identity:
        flat.mark(_NAME, state.suspect)
        flat.mark(_DOUBT, state.quarantine_until_ms)
        flat.mark(_MOMENT, state.quarantine_until_ms)
    return flat


def _entry(state: StoreState, name: str) -> _Flat:
    """What a store knows of one node."""
    flat = _Flat()
    flat.add(state.members.get(name))
    flat.add(state.excluded.get(name))
    return flat


def _copies(host: Host) -> list[Snapshot]:
    """The copies of the members that a master has, or that are on their way to it."""
    replies = [reply.reply.snapshot for reply in host.replies if isinstance(reply.reply, All)]
    master = host.node.master if host.node is not None else None
    if master is not None and master.epoch and master.snapshot is not None:
        replies.append(master.snapshot)
    return replies


# --- the whole ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remarks:
    """What an all-seeing observer adds to the situation."""

    of_hosts: Mapping[str, tuple[str | int, ...]]
    plain: tuple[str | int, ...]
    orders: tuple[tuple[int, int], ...]  # epoch and revision


def fingerprint(stage: Stage, remarks: Remarks, *, lagging: bool) -> bytes:
    """16 bytes; equal for stages of which one could stand for the other.

    Args:
        stage: without leases and with one lock server.
        remarks: of the observer.
        lagging: the store's copy may still take over.
    """
    assert not stage.config.lease_s
    assert stage.config.lock_servers == 1
    states = [stage.store.state] + ([stage.store.copy] if lagging else [])
    whole = _Flat()
    for state in states:
        whole.extend(_store(state, stage.store.identity))
    whole.plain += [stage.store.replica_up, *remarks.plain]
    whole.mark(_NAME, stage.store.identity)
    for epoch, revision in remarks.orders:
        whole.mark(_EPOCH, epoch)
        whole.mark(_REV, revision)
    parts = {name: _own_part(stage, host, states, remarks) for name, host in stage.hosts.items()}
    write = _Writer(stage, states, [whole, *parts.values(), *_copied(stage, list(parts))])
    rows = {name: write.row(part) for name, part in parts.items()}
    order = sorted(rows, key=lambda name: marshal.dumps((rows[name], _Names()(parts[name])), 2))
    copied, names = _copied(stage, order), _Names()
    numbered = [names(flat) for flat in (whole, *(parts[name] for name in order), *copied)]
    written = [write.row(whole), *(rows[name] for name in order), *map(write.row, copied), numbered]
    return blake2b(marshal.dumps(written, 2), digest_size=16).digest()


def _own_part(stage: Stage, host: Host, states: Sequence[StoreState], remarks: Remarks) -> _Flat:
    """All that there is of one machine: the order of the machines must not matter."""
    part = _Flat()
    part.plain += remarks.of_hosts[host.name]
    if host.flat is None:
        host.flat = _host(stage, host)
    part.extend(host.flat)
    for state in states:
        part.extend(_entry(state, host.name))
    timer = host.timers.get(Timer.CONTEND)
    if timer is not None and not stage.lock_held:
        part.plain.append(timer.at_s <= stage.clock_s + SOON_S)
    counted = min(state.record.revision if state.record else 0 for state in states)
    membership = host.node.membership if host.node is not None else None
    for memory in (host.disk, host.saving, membership.memory if membership else None):
        if memory is not None and memory.record is not None:
            passed = memory.record.revision <= counted and not _late(stage)
            part.extend(_outline(memory.record) if passed else _remembered(memory.record))
    _rank(part, _INC)
    _rank(part, _NUMBER, needless=not host.asked)  # a later one is higher anyway
    tokens = {member.token for state in states if (member := state.members.get(host.name))}
    _known_only(part, tokens)
    return part


def _known_only(part: _Flat, tokens: set[str]) -> None:
    """Leave out the earlier tokens that no server knows: they prove nothing any more."""
    places = [place for place, domain in enumerate(part.domains) if domain == _PREVIOUS]
    for start in range(0, len(places), EARLIER_TOKENS):
        run = places[start : start + EARLIER_TOKENS]
        known = [part.values[place] for place in run if part.values[place] in tokens]
        for place, token in zip(run, (*known, *[""] * (len(run) - len(known))), strict=True):
            part.domains[place], part.values[place] = _NAME, token


def _rank(part: _Flat, domain: int, *, needless: bool = False) -> None:
    """Write ranks for what is compared within one machine only."""
    places = [place for place, one in enumerate(part.domains) if one == domain]
    ranks = _ranks(part.values[place] for place in places)
    for place in places:
        rank = 0 if needless else ranks[part.values[place]]
        part.domains[place], part.values[place] = _RANKED, rank


def _late(stage: Stage) -> bool:
    """True if something is on its way to a node, so that what the store has passed may yet come."""
    return any(host.news or host.changes or host.replies for host in stage.hosts.values())


def _outline(record: ClusterRecord) -> _Flat:
    """What still counts of a record that the store has reached or passed: nobody brings it back."""
    flat = _Flat()
    flat.add((record.acting, record.floor, record.data))
    flat.mark(_NAME, record.generation)
    flat.mark(_EPOCH, record.epoch)
    flat.mark(_OPERATED, record.revision)
    flat.mark(_SEEN, record.revision)
    return flat


def _copied(stage: Stage, order: Sequence[str]) -> list[_Flat]:
    """What masters know of the members, in the given order of the machines."""
    flats, known = [], stage.store.state.members
    for name in order:
        host, flat = stage.hosts[name], _Flat()
        for snapshot in _copies(host):
            members = snapshot.members
            if len(members) == len(known) and all(known.get(k) is v for k, v in members.items()):
                flat.plain.append("as in the store")
            else:
                flat.add(tuple(members.get(member) for member in order))
        flat.plain += [order.index(m.id) for m in host.changes if isinstance(m, MemberHeard)]
        flats.append(flat)
    return flats


_Map = Callable[[Any], int]


class _Writer:
    """Writes small numbers instead of the values of a stage's domains."""

    def __init__(self, stage: Stage, states: Sequence[StoreState], flats: Sequence[_Flat]) -> None:
        found: list[set[int]] = [set() for _ in _Domain]
        for flat in flats:
            for domain, value in zip(flat.domains, flat.values, strict=True):
                found[domain].add(value)
        revisions, raised, floored = (sorted(found[d]) for d in (_REV, _RAISED, _FLOORED))
        records = [state.record for state in states if state.record is not None]
        counted = min((record.revision for record in records), default=0)
        epoch = min((record.epoch for record in records), default=0)
        late = _late(stage)
        members, now_ms = stage.store.state.members_revision, stage.store_now_ms
        doubts = _ranks({-1, 0} | found[_VERIFIED] | found[_DOUBT])
        running = found[_DOUBT] - {0}
        self._writes: tuple[_Map, ...] = (
            _counted_on(revisions, counted, apart=late),
            partial(bisect_left, raised),
            lambda value: 1000 * bisect_left(floored, value) + bisect_left(revisions, value),
            partial(bisect_right, raised),
            partial(bisect_right, floored),
            _counted_on(found[_EPOCH], epoch, apart=late),
            lambda revision: revision - members,
            doubts.__getitem__,
            doubts.__getitem__,
            lambda doubt: doubts[doubt] if doubt in running else -1,
            lambda moment: int(moment > now_ms),
            _nothing,  # names are numbered at last
            _nothing,  # incarnations that a master has copied: it never looks at them
            _nothing,  # numbers of requests likewise
            int,  # ranked already
            _nothing,  # previous tokens have become names
        )

    def row(self, flat: _Flat) -> list[object]:
        """All of it but the names."""
        writes = self._writes
        values = [writes[d](v) for d, v in zip(flat.domains, flat.values, strict=True)]
        return [*flat.plain, *values]


def _nothing(value: object) -> int:
    return 0


class _Names:
    """Numbers names as it meets them."""

    def __init__(self) -> None:
        self._numbers = {"": 0}

    def __call__(self, flat: _Flat) -> list[int]:
        """The numbers of the names in `flat`."""
        numbers = self._numbers
        return [
            numbers.setdefault(value, len(numbers))
            for domain, value in zip(flat.domains, flat.values, strict=True)
            if domain == _NAME
        ]


def _ranks(values: Iterable[int]) -> dict[int, int]:
    return {value: rank for rank, value in enumerate(sorted(set(values)))}


def _counted_on(values: Iterable[int], counter: int, *, apart: bool) -> _Map:
    """What the counter has passed is passed; what it may still come to keeps its distance.

    Args:
        values: all that there are.
        counter: the lowest value from which somebody may count on.
        apart: among the passed ones the order matters, because some are on their way to somebody.
    """
    ranks = _ranks(value for value in values if value < counter) if apart else {}
    return lambda value: (
        1000 + min(value - counter, _FAR) if value >= counter else ranks.get(value, 0)
    )


_FAR = 50  # a jump after a doubt: nobody counts so far
