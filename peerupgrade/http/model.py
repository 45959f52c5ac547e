"""Core types as plain JSON values, with names that programs may rely on.

The names here are an interface: internal types may change, these may only grow. Versions are text.
A time is twice there: `..._at` in ISO 8601 for people, `..._at_ms` in unix milliseconds for
programs; both are null when there is none. Times of the cluster are of the store's clock, and so is
`now`, so that the difference of two is an age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from peerupgrade.core.admission import Entry
from peerupgrade.core.blockers import Blocker
from peerupgrade.core.downgrade import Obstacle
from peerupgrade.core.foresight import Batch
from peerupgrade.core.gossip.packets import Heartbeat
from peerupgrade.core.gossip.view import GossipView, Sighting
from peerupgrade.core.plan import Between, Change, Deployment, Plan, Turn, Zone
from peerupgrade.core.progress import Progress, StepProgress, all_progress, step_progress
from peerupgrade.core.record import (
    ClusterRecord,
    Completion,
    Downgrade,
    Hold,
    Member,
    RolloutEnd,
    Slot,
    Tombstone,
    Upgrade,
    newer,
)
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.rollout import Part, RolloutView, outcome, rollout_view
from peerupgrade.core.status import NodeStatus
from peerupgrade.core.strategy import shown
from peerupgrade.core.versions import Version
from peerupgrade.http.view import Finding, Ledger, NodeEvent
from peerupgrade.ports import Traffic

Json: TypeAlias = dict[str, Any]


def node_json(status: NodeStatus) -> Json:
    """One node, by its own word."""
    record = status.record
    return {
        "name": status.name,
        "state": str(status.state),
        "ready": status.ready,
        "reason": status.reason,
        "installed": str(status.installed),
        "lowest_supported": str(status.lowest),
        "operating": _text(status.operating),
        "acting": _text(status.acting),
        "revision": record.revision if record else 0,
        "incarnation": status.incarnation,
        "master": status.epoch > 0,
        "epoch": status.epoch,
        "store_failure": status.store_failure,
        "quorum_lost": status.quorum_lost,
        "failure": status.failure,
        "before_failure": status.step_failure,
        "master_silent_s": status.master_silent_s,
    }


def acting_json(status: NodeStatus, record: ClusterRecord) -> Json:
    """What a program beside the node must know; `operating` is what it should behave as."""
    return {
        "acting": _text(record.acting),
        "operating": _text(status.operating),
        "state": status.state,
        "settled": record.settled,
        "data": _text(record.data),
        "generation": record.generation,
        "revision": record.revision,
    }


def cluster_json(ledger: Ledger, status: NodeStatus) -> Json:
    """The cluster on one screen. Without the store: what the node itself remembers."""
    snapshot = ledger.snapshot
    record = _newest(snapshot.record if snapshot is not None else None, status.record)
    members = snapshot.members.values() if snapshot is not None else ()
    by_version = Counter(member.installed for member in members)
    return {
        **_freshness(ledger),
        "asked": status.name,
        "verified": snapshot.verified if snapshot is not None else None,
        **record_json(record),
        "members": len(snapshot.members) if snapshot is not None else None,
        "members_by_installed": {
            str(version): by_version[version] for version in sorted(by_version, reverse=True)
        },
        "collections": collections_json(ledger),
        "steps": steps_json(ledger),
        "blockers": len(ledger.blockers),
    }


def collections_json(ledger: Ledger) -> list[Json] | None:
    """How far each collection of shared data is; null if the store has never answered."""
    if ledger.snapshot is None:
        return None
    now_ms = ledger.snapshot.now_ms
    return [_progress(one) for one in all_progress(ledger.snapshot, now_ms)]


def steps_json(ledger: Ledger) -> list[Json] | None:
    """How far each of the application's own steps is; null if the store has never answered."""
    if ledger.snapshot is None:
        return None
    return [_step(one) for one in step_progress(ledger.snapshot, ledger.snapshot.now_ms)]


def record_json(record: ClusterRecord | None) -> Json:
    """The cluster record; all null or empty before there is one."""
    known = record if record is not None else ClusterRecord(generation="")
    return {
        "generation": known.generation,
        "revision": known.revision,
        "master": known.master,
        "epoch": known.epoch,
        "acting": _text(known.acting),
        "raising_to": _text(known.floor if known.raising else None),
        "settled": known.settled,
        "data": _text(known.data),
        "lowest_supported": _text(known.lowest),
        **_time("raised_at", known.raised_at_ms),
        "bootstrap_expect": known.bootstrap_expect,
        "hold": _hold(known.hold),
        "pause": _hold(known.pause),
        "upgrade": _upgrade(known.upgrade),
        "downgrade": _downgrade(known.downgrade),
        "downgrades": known.downgrades,
        "completion": _completion(known.completion),
    }


def members_json(ledger: Ledger, status: NodeStatus, gossip: GossipView | None) -> Json:
    """Every member, exclusion that is remembered, and slot, by name.

    While the store is away, what nodes say of themselves by gossip is newer than what it said last.
    """
    snapshot = ledger.snapshot
    record = _newest(snapshot.record if snapshot is not None else None, status.record)
    members = snapshot.members if snapshot is not None else {}
    sightings = gossip.sightings if gossip is not None else {}
    found = []
    for name in sorted({*members, *sightings}):
        known, seen = members.get(name), sightings.get(name)
        heard = seen and seen.heartbeat
        if known and heard and (ledger.live or heard.incarnation < known.incarnation):
            heard = None
        found.append(
            {
                "name": name,
                "listed": None if snapshot is None else known is not None,
                "source": "gossip" if heard else "store",
                "master": record is not None and name == record.master,
                **_member(known),
                **(_heartbeat(heard) if heard else {}),
                **(_UNHEARD if gossip is not None else _NO_GOSSIP),
                **(_sighting(seen) if seen else {}),
            }
        )
    excluded = snapshot.excluded.values() if snapshot is not None else ()
    slots = snapshot.slots if snapshot is not None else {}
    return {
        **_freshness(ledger),
        **({} if ledger.live else {"note": _members_note(ledger, sightings)}),
        "members": found,
        "excluded": [_tombstone(one) for one in sorted(excluded, key=lambda stone: stone.id)],
        "slots": [_slot(slots[name]) for name in sorted(slots)],
    }


def _members_note(ledger: Ledger, sightings: Mapping[str, Sighting]) -> str:
    by_gossip = "what nodes say of themselves is by gossip, and of now"
    return f"{ledger.note}; {by_gossip}" if sightings else ledger.note


def topology_json(gossip: GossipView, traffic: Traffic) -> Json:
    """Who is where and whether it answers, as one node's gossip sees it."""
    zones: dict[str, list[Json]] = {}
    for name, seen in sorted(gossip.sightings.items()):
        node = {"name": name, **_heartbeat(seen.heartbeat), **_sighting(seen)}
        zones.setdefault(seen.heartbeat.zone, []).append(node)
    return {
        "asked": gossip.asked,
        "gossip_address": gossip.address,
        "zones": [{"zone": zone, "nodes": zones[zone]} for zone in sorted(zones)],
        "traffic": {
            "sent": traffic.sent,
            "sent_bytes": traffic.sent_bytes,
            "heard": traffic.heard,
            "unsent": {str(fault): traffic.unsent[fault] for fault in sorted(traffic.unsent)},
            "refused": {str(fault): traffic.refused[fault] for fault in sorted(traffic.refused)},
        },
    }


def why_json(ledger: Ledger) -> Json:
    """Every reason why the upgrade has not finished."""
    return {
        **_freshness(ledger),
        "blockers": [_blocker(blocker) for blocker in ledger.blockers],
    }


def history_json(entries: list[dict[str, str]]) -> Json:
    """The history, newest first; an older peerupgrade may have left fields out."""
    return {"entries": [_entry(entry) for entry in entries]}


def event_json(event: NodeEvent) -> Json:
    """One thing that happened."""
    return {
        **_time("at", event.at_ms),
        "node": event.node,
        "event": event.event,
        "detail": event.detail,
        "revision": event.revision,
    }


def doctor_json(findings: list[Finding]) -> Json:
    """What was examined, in the order in which it was."""
    return {
        "findings": [
            {
                "level": finding.level,
                "subject": finding.subject,
                "text": finding.text,
                "hint": finding.hint,
            }
            for finding in findings
        ]
    }


def rehearsal_json(found: list[Rehearsal]) -> Json:
    """What became of the samples; `ok`: every record came through, there and back."""
    return {
        "ok": not any(one.failed for one in found),
        "collections": [_rehearsal(one) for one in found],
    }


def plan_json(ledger: Ledger, plan: Plan, why_not_rehearsed: str) -> Json:
    """What an upgrade would do; `ok`: nothing stands in its way."""
    return {
        **_freshness(ledger),
        "ok": plan.go,
        "version": str(plan.version),
        "lowest_supported": _text(plan.lowest),
        "acting": _text(plan.acting),
        "data": _text(plan.data),
        "in_between": _between(plan.between),
        "strategy": shown(plan.strategy),
        "order": [_turn(one) for one in plan.order],
        "batches": [_batch(one) for one in plan.batches],
        **_time("opens_at", plan.opens_at_ms or 0),
        "turn_s": plan.turn_s,
        "lasts_s": plan.lasts_s,
        "done": [_turn(one) for one in plan.done],
        "skipped": list(plan.skipped),
        "zones": [_zone(one) for one in plan.zones],
        "hold": _hold(plan.hold),
        "steps": [
            {"phase": one.phase, "version": str(one.version), "nodes": list(one.members)}
            for one in plan.steps
        ],
        "collections": [_change(one) for one in plan.changes],
        "not_rehearsed": why_not_rehearsed,
        "blockers": [_blocker(one) for one in plan.blockers],
        "in_the_way": [_blocker(one) for one in plan.in_the_way],
    }


def downgrade_json(ledger: Ledger, version: Version, found: Sequence[Obstacle]) -> Json:
    """What a downgrade would do; `ok`: nothing forbids it."""
    record = ledger.snapshot.record if ledger.snapshot is not None else None
    return {
        **_freshness(ledger),
        "ok": not found,
        "version": str(version),
        "acting": _text(record.acting if record is not None else None),
        "forbidden_by": [
            {"rule": one.rule, "evidence": one.evidence, "remedy": one.remedy} for one in found
        ],
    }


def _downgrade(downgrade: Downgrade | None) -> Json | None:
    if downgrade is None:
        return None
    asked = {"version": downgrade.version, "by": downgrade.by, "reason": downgrade.reason}
    return {**asked, **_time("at", downgrade.at_ms), "begun": downgrade.barred == 1}


def rollout_json(ledger: Ledger) -> Json:
    """The rollout that is under way, what each member does in it, and the one that ended last."""
    snapshot = ledger.snapshot
    record = snapshot.record if snapshot is not None else None
    view = rollout_view(snapshot) if snapshot is not None else None
    return {
        **_freshness(ledger),
        "acting": _text(record.acting if record is not None else None),
        "rollout": _rollout(view) if view is not None else None,
        "ended": _rollout_end(record.rollout_end if record is not None else None),
        "blockers": [_blocker(one) for one in ledger.blockers],
    }


def _rollout(view: RolloutView) -> Json:
    rollout = view.rollout
    return {
        "id": rollout.id,
        "version": rollout.version,
        "by": rollout.by,
        "reason": rollout.reason,
        **_time("started_at", rollout.started_at_ms),
        **shown(rollout.strategy),
        "failed": list(rollout.failed),
        "pause": _hold(rollout.pause),
        "aborted": bool(rollout.aborted),
        "rollback": bool(rollout.rollback),
        "returning": list(rollout.returning),
        "cause": rollout.cause,
        "done": view.done,
        "total": len(view.parts),
        "remaining_s": view.remaining_s,
        "members": [_part(one) for one in view.parts],
    }


def _part(part: Part) -> Json:
    member, work = part.member, part.work
    return {
        "name": member.id,
        "zone": member.zone,
        "installed": str(member.installed),
        "standing": str(member.standing),
        "state": part.state,
        "step": str(work.step) if work else None,
        "step_state": str(work.state) if work else None,
        "attempt": work.attempt if work else None,
        "note": work.note if work else "",
        "health": _health(member),
        **_time("changed_at", member.changed_at_ms),
    }


def _rollout_end(end: RolloutEnd | None) -> Json | None:
    if end is None:
        return None
    return {
        "id": end.id,
        "version": end.version,
        "outcome": outcome(end),
        "skipped": list(end.skipped),
        "cause": end.cause,
        **_time("started_at", end.started_at_ms),
        **_time("ended_at", end.ended_at_ms),
        "duration_s": (end.ended_at_ms - end.started_at_ms) / 1000,
    }


def deployment_json(
    ledger: Ledger, versions: tuple[Version, Version], deployment: Deployment
) -> Json:
    """What would become of a node with these versions; `ok`: any node may have them now."""
    record = ledger.snapshot.record if ledger.snapshot is not None else None
    installed, lowest = versions
    refusal = deployment.refusal
    return {
        **_freshness(ledger),
        "ok": deployment.go,
        "version": str(installed),
        "lowest_supported": str(lowest),
        "acting": _text(record.acting if record is not None else None),
        "data": _text(record.data if record is not None else None),
        "new_node": _entry_of_node(deployment.newcomer),
        "member": _entry_of_node(deployment.member),
        "error": str(refusal.args[0]) if refusal is not None else "",
        "hint": refusal.hint if refusal is not None else "",
    }


def iso_time(at_ms: int) -> str:
    """A unix time in milliseconds as ISO 8601 in UTC."""
    seconds, rest_ms = divmod(at_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ms * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _newest(stored: ClusterRecord | None, remembered: ClusterRecord | None) -> ClusterRecord | None:
    """A node hears of a new record without asking, so its own may be the newer one."""
    if stored is None or remembered is None:
        return stored or remembered
    same = stored.generation == remembered.generation
    return remembered if same and newer(remembered, stored) else stored


def _freshness(ledger: Ledger) -> Json:
    snapshot = ledger.snapshot
    now_ms = snapshot.now_ms if ledger.live and snapshot is not None else ledger.as_of_ms
    return {"live": ledger.live, "note": ledger.note, **_time("now", now_ms)}


def _text(version: Version | None) -> str | None:
    return None if version is None else str(version)


def _time(name: str, at_ms: int) -> Json:
    """Both forms of a time; 0 is how the core says that there is none."""
    return {name: iso_time(at_ms) if at_ms else None, f"{name}_ms": at_ms or None}


def _hold(hold: Hold | None) -> Json | None:
    if hold is None:
        return None
    return {
        "by": hold.by,
        "reason": hold.reason,
        **_time("at", hold.at_ms),
        **_time("until", hold.until_ms),
    }


def _upgrade(upgrade: Upgrade | None) -> Json | None:
    if upgrade is None:
        return None
    return {"before": upgrade.before, **_time("started_at", upgrade.started_at_ms)}


def _completion(completion: Completion | None) -> Json | None:
    if completion is None:
        return None
    return {
        "before": completion.before,
        "version": completion.version,
        **_time("started_at", completion.started_at_ms),
        **_time("ended_at", completion.ended_at_ms),
        "duration_s": completion.duration_s,
    }


def _progress(one: Progress) -> Json:
    return {
        "name": one.collection,
        "format": one.target or None,
        "records": one.total,
        "records_by_format": dict(one.view.counts),
        "left": one.left,
        "done": one.share,
        "remaining_s": one.remaining_s if one.left else None,
        "converter": one.view.converter or None,
        "parked": len(one.view.parked),
        "skipped": one.view.skipped,
    }


def _step(one: StepProgress) -> Json:
    state = one.state
    return {
        "phase": state.phase,
        "version": str(state.version),
        "name": state.name,
        "units": state.total,
        "units_done": state.done,
        "done": one.share,
        "finished": bool(state.finished),
        "failure": state.failure,
        "remaining_s": None if state.finished else one.remaining_s,
        **_time("began_at", state.began_at_ms),
        **_time("saved_at", state.saved_at_ms),
    }


def _member(member: Member | None) -> Json:
    """One member; its token stays here, because it proves whose the name is. None: not listed."""
    if member is None:
        return _ONLY_THE_STORE_KNOWS
    return {
        "incarnation": member.incarnation,
        "standing": str(member.standing),
        "installed": str(member.installed),
        "lowest_supported": str(member.lowest),
        "operating": _text(member.operating),
        "operating_revision": member.operating_revision,
        "failure": member.failure,
        "health": _health(member),
        "policy": "suspend" if member.lease_ms else "freeze",
        **_time("lease_until", member.lease_until_ms),
        "address": member.address,
        "zone": member.zone,
        "labels": dict(member.labels),
        **_time("joined_at", member.joined_at_ms),
        **_time("changed_at", member.changed_at_ms),
    }


def _health(member: Member) -> Json | None:
    """Null where nothing is probed. `since`: the state is so; the note is the newest probe's."""
    health = member.health
    if health is None:
        return None
    since = _time("since", member.health_since_ms)
    return {"state": str(health.state), "note": health.note, **since}


_ONLY_THE_STORE_KNOWS: Json = {
    "operating_revision": None,
    "failure": None,
    "health": None,
    "policy": None,
    **_time("lease_until", 0),
    "address": None,
    **_time("joined_at", 0),
    **_time("changed_at", 0),
}
_NO_GOSSIP: Json = {
    "condition": None,
    "judged_by": None,
    "last_heard_s": None,
    "rtt_ms": None,
    "gossip_address": None,
}
_UNHEARD = {**_NO_GOSSIP, "condition": "unheard"}


def _heartbeat(heartbeat: Heartbeat) -> Json:
    """What a node says of itself."""
    return {
        "incarnation": heartbeat.incarnation,
        "standing": str(heartbeat.standing),
        "installed": str(heartbeat.installed),
        "lowest_supported": str(heartbeat.lowest),
        "operating": _text(heartbeat.operating),
        "zone": heartbeat.zone,
        "labels": dict(heartbeat.labels),
    }


def _sighting(seen: Sighting) -> Json:
    """Whether it answers; `judged_by`: who suspects it, or gave it up."""
    return {
        "condition": str(seen.heartbeat.condition),
        "judged_by": seen.heartbeat.by or None,
        "last_heard_s": None if seen.heard_s is None else round(seen.heard_s, 3),
        "rtt_ms": None if seen.rtt_s is None else round(seen.rtt_s * 1000, 3),
        "gossip_address": seen.heartbeat.address,
    }


def _rehearsal(one: Rehearsal) -> Json:
    return {
        "name": one.collection,
        "format": one.target,
        "records": sum(one.records.values()),
        "records_by_format": one.records,
        "to_convert": one.to_convert,
        "sampled": one.sampled,
        "converted": one.converted,
        "failed": one.failed,
        "failures": [
            {"key": failure.key, "format": failure.format, "error": failure.error}
            for failure in one.failures
        ],
        "way_back": one.way_back,
        "bytes_before": one.bytes_before,
        "bytes_after": one.bytes_after,
        "codec_s": one.codec_s,
        "estimated_s": one.estimated_s,
    }


def _between(between: Between | None) -> Json | None:
    if between is None:
        return None
    return {
        "exists": between.exists,
        "at_least": str(between.at_least),
        "below": str(between.below),
        "must_support": str(between.must_support),
    }


def _turn(turn: Turn) -> Json:
    member = turn.member
    return {
        "name": member.id,
        "installed": str(member.installed),
        "zone": member.zone,
        "standing": str(member.standing),
        "answers": turn.answers,
        "master": turn.is_master,
        "hands_over": turn.hands_over,
        "slot_by": turn.slot_by or None,
    }


def _batch(batch: Batch) -> Json:
    return {
        "nodes": list(batch.members),
        "after": str(batch.after),
        **_time("begins_at", batch.begins_at_ms),
    }


def _zone(zone: Zone) -> Json:
    return {
        "zone": zone.name,
        "members": zone.members,
        "serving": zone.serving,
        "down_max": zone.down_max,
    }


def _change(change: Change) -> Json:
    """One collection; without a known format it is not known how many records change."""
    one = change.progress
    return {
        "name": one.collection,
        "format": one.target or None,
        "records": one.total,
        "records_by_format": dict(one.view.counts),
        "to_convert": one.left if one.target else None,
        "estimated_s": change.estimated_s,
        "rehearsal": None if change.rehearsal is None else _rehearsal(change.rehearsal),
    }


def _entry_of_node(entry: Entry) -> Json:
    """`standing` is null if it is not admitted; `rule` keeps it from serving."""
    return {"standing": entry.standing, "rule": entry.rule}


def _tombstone(stone: Tombstone) -> Json:
    return {
        "name": stone.id,
        "incarnation": stone.incarnation,
        "by": stone.by,
        "reason": stone.reason,
        **_time("at", stone.at_ms),
    }


def _slot(slot: Slot) -> Json:
    return {"name": slot.id, "by": slot.by, **_time("at", slot.at_ms)}


def _blocker(blocker: Blocker) -> Json:
    return {
        "code": str(blocker.code),
        "subject": blocker.subject,
        **_time("since", blocker.since_ms),
        "evidence": blocker.evidence,
        "remedy": blocker.remedy,
    }


def _entry(entry: Mapping[str, str]) -> Json:
    return {
        "id": entry.get("id", ""),
        **_time("at", int(entry.get("at_ms", 0))),
        "kind": entry.get("kind", ""),
        "by": entry.get("by", ""),
        "epoch": int(entry.get("epoch", 0)),
        "revision": int(entry.get("revision", 0)),
        "before": entry.get("before") or None,
        "after": entry.get("after") or None,
        "inputs": entry.get("inputs", ""),
    }
