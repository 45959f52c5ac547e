"""What one node can say of itself and of the cluster, without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass

from peerupgrade.core.blockers import Blocker, Code
from peerupgrade.core.membership import NodeState
from peerupgrade.core.node import Node
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.refusals import VERSION_RULES, version_words
from peerupgrade.core.versions import Version

_SILENT_S = 10.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node at one moment.

    Attributes:
        acting: of the newest record that this node knows; None before the cluster has formed.
        operating: what this node behaves as; None while it is suspended, and `reason` says why.
        epoch: of this node's own mastership; 0 unless it is master.
        store_failure: why the store's last answer is missing; "" if there was one.
        master_silent_s: since a master was last heard of; None if never.
        suspended_s, store_silent_s, quorum_lost_s: for how long, where it is so.
        quorum_lost: too few lock servers answered when this node last asked them.
    """

    name: str
    state: NodeState
    reason: str
    installed: Version
    lowest: Version
    operating: Version | None
    acting: Version | None
    incarnation: int
    epoch: int
    record: ClusterRecord | None
    store_failure: str
    quorum_lost: bool
    failure: str
    step_failure: str
    master_silent_s: float | None
    suspended_s: float
    store_silent_s: float
    quorum_lost_s: float

    @property
    def ready(self) -> bool:
        """True while the node operates."""
        return self.operating is not None


def node_status(node: Node, now: float) -> NodeStatus:
    """Look at a node; `now` by its own clock."""
    membership, mastership = node.membership, node.mastership
    record, seen_s = membership.record, mastership.master_seen_s
    return NodeStatus(
        name=node.config.id,
        state=membership.state,
        reason=membership.reason,
        installed=membership.config.installed,
        lowest=membership.config.lowest,
        operating=membership.operating,
        acting=record.acting if record else None,
        incarnation=membership.incarnation,
        epoch=mastership.epoch,
        record=record,
        store_failure=membership.store_failure,
        quorum_lost=mastership.quorum_lost_since_s is not None,
        failure=membership.failure,
        step_failure=node.master.step_failure,
        master_silent_s=None if seen_s is None else max(0.0, now - seen_s),
        suspended_s=now - membership.state_since_s,
        store_silent_s=_since(now, membership.store_failed_s),
        quorum_lost_s=_since(now, mastership.quorum_lost_since_s),
    )


def _since(now: float, began_s: float | None) -> float:
    return 0.0 if began_s is None else max(0.0, now - began_s)


def _ago(now_ms: int, seconds: float) -> int:
    return now_ms - round(seconds * 1000)


def local_blockers(status: NodeStatus, now_ms: int, store_answers: bool) -> list[Blocker]:
    """What only this node can know: that it cannot reach something, or may not operate."""
    found = []
    if not store_answers:
        found.append(
            Blocker(
                Code.STORE_UNREACHABLE,
                status.name,
                _ago(now_ms, status.store_silent_s),
                f"the store does not answer {status.name}: {status.store_failure or 'no answer'}",
                "start the store, or mend the network to it; nodes go on operating meanwhile",
            )
        )
    silent_s = status.master_silent_s
    if store_answers and not status.quorum_lost and (silent_s is None or silent_s > _SILENT_S):
        found.append(
            Blocker(
                Code.NO_MASTER,
                "",
                _ago(now_ms, silent_s or 0.0),
                f"{status.name} has not heard of a master"
                + (f" for {silent_s:.0f} s" if silent_s else ""),
                "wait a few seconds; if none appears, peerupgrade doctor examines the lock servers",
            )
        )
    if status.quorum_lost:
        found.append(
            Blocker(
                Code.NO_MASTER,
                status.name,
                _ago(now_ms, status.quorum_lost_s),
                "too few lock servers answer for a master to be found",
                "start the lock servers that are down; peerupgrade doctor names them",
            )
        )
    if not status.ready and status.state not in (NodeState.STARTING, NodeState.STOPPED):
        why, remedy = _suspended_words(status, store_answers)
        since_ms = _ago(now_ms, status.suspended_s)
        evidence = f"{status.name} does not operate: {why}"
        found.append(Blocker(Code.SUSPENDED, status.name, since_ms, evidence, remedy))
    return found


def _suspended_words(status: NodeStatus, store_answers: bool) -> tuple[str, str]:
    """Why it does not operate, and what lets it operate again."""
    name, reason = status.name, status.reason
    if status.state is NodeState.EXCLUDED:
        return reason, f"start {name} again: it is admitted as a new incarnation"
    if status.state is NodeState.AWAY:
        return reason, f"wait for the end of its turn, if it has one; or start {name} again"
    if not store_answers:
        return reason, "start the store, or mend the network to it; the node then asks by itself"
    if reason in VERSION_RULES:
        return version_words(reason, status.record, name, status.installed, status.lowest)
    acting = status.record.acting if status.record is not None else None
    if acting is not None and not status.lowest <= acting <= status.installed:
        return reason, f"install a version on {name} that supports {acting}"
    return reason, f"wait: {name} asks to be admitted again; if it is not, start it again"
