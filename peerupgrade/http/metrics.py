"""The state of the cluster and of one node as metrics, in the text format that Prometheus scrapes.

They are made anew for each scrape from what `status`, `members` and `why` show, so nothing is kept
and nothing can be out of date. Whatever has an age is shown in seconds since, so that an alert is
one comparison: a hold that was forgotten, a reason that stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from peerupgrade.core.record import ClusterRecord, Snapshot, Standing
from peerupgrade.core.rollout import rollout_view
from peerupgrade.core.status import NodeStatus
from peerupgrade.http.view import Ledger

CONTENT_TYPE = CONTENT_TYPE_LATEST


def metrics_text(status: NodeStatus, ledger: Ledger, now_ms: int) -> bytes:
    """All metrics.

    Args:
        status: of the node that is asked.
        ledger: what it knows of the cluster.
        now_ms: unix time; where the store answered its clock is taken instead.
    """
    if ledger.live and ledger.snapshot is not None:
        now_ms = ledger.snapshot.now_ms
    registry = CollectorRegistry()
    registry.register(_Collected([*_node(status), *_cluster(ledger, now_ms)]))
    return generate_latest(registry)


class _Collected:
    """What the library's registry asks."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _node(status: NodeStatus) -> Iterator[Metric]:
    yield _gauge("node_ready", "1 while this node operates", float(status.ready))
    yield _gauge("node_master", "1 while this node is master", float(bool(status.epoch)))
    versions = {
        "name": status.name,
        "installed": str(status.installed),
        "operating": str(status.operating or ""),
    }
    yield _labelled("node_info", "Versions of this node", [(versions, 1.0)])


def _cluster(ledger: Ledger, now_ms: int) -> Iterator[Metric]:
    yield _gauge("store_answers", "1 while the store answers this node", float(ledger.live))
    snapshot = ledger.snapshot
    if snapshot is None or snapshot.record is None:
        return
    record = snapshot.record
    versions = {"acting": str(record.acting or ""), "data": str(record.data or "")}
    yield _labelled("cluster_info", "Versions of the cluster", [(versions, 1.0)])
    yield _gauge("settled", "1 while every member has confirmed", float(record.settled))
    yield _ages(record, now_ms)
    standings = Counter(member.standing for member in snapshot.members.values())
    by_standing = [({"standing": str(one)}, float(standings[one])) for one in Standing]
    yield _labelled("members", "Members by what they may do", by_standing)
    installed = Counter(str(member.installed) for member in snapshot.members.values())
    by_version = [({"installed": one}, float(count)) for one, count in sorted(installed.items())]
    yield _labelled("members_installed", "Members by installed version", by_version)
    oldest: dict[str, float] = {}
    for blocker in ledger.blockers:
        age_s = _age_s(blocker.since_ms, now_ms)
        oldest[blocker.code] = max(oldest.get(blocker.code, 0.0), age_s)
    by_code = [({"code": str(code)}, age_s) for code, age_s in sorted(oldest.items())]
    about = "Why the upgrade has not finished: seconds since the oldest reason of each code"
    yield _labelled("blocker_age_seconds", about, by_code)
    yield from _rollout(snapshot)


def _ages(record: ClusterRecord, now_ms: int) -> Metric:
    """What somebody has set and may have forgotten; absent where nothing is set."""
    rollout = record.rollout
    pauses = {
        "hold": record.hold,
        "data_pause": record.pause,
        "rollout_pause": rollout.pause if rollout is not None else None,
    }
    found = [
        ({"what": what, "by": pause.by}, _age_s(pause.at_ms, now_ms))
        for what, pause in pauses.items()
        if pause is not None
    ]
    if record.upgrade is not None:
        began = ({"what": "upgrade", "by": ""}, _age_s(record.upgrade.started_at_ms, now_ms))
        found.append(began)
    about = "Seconds since a hold or a pause was set, or the upgrade began"
    return _labelled("age_seconds", about, found, labels=("what", "by"))


def _rollout(snapshot: Snapshot) -> Iterator[Metric]:
    view = rollout_view(snapshot)
    if view is not None:
        states = Counter(part.state for part in view.parts)
        parts = [({"state": one}, float(count)) for one, count in sorted(states.items())]
        yield _labelled("rollout_members", "Members of the rollout by their state", parts)


def _age_s(since_ms: int, now_ms: int) -> float:
    return max(0, now_ms - since_ms) / 1000


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"peerupgrade_{name}", about, value=value)


def _labelled(
    name: str,
    about: str,
    samples: list[tuple[dict[str, str], float]],
    labels: tuple[str, ...] = (),
) -> Metric:
    names = labels or tuple(samples[0][0] if samples else ())
    family = GaugeMetricFamily(f"peerupgrade_{name}", about, labels=names)
    for values, value in samples:
        family.add_metric([values[one] for one in names], value)
    return family
