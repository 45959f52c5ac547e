"""What the demo measured, and whether all of it is as it has to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from peerupgrade.demo.cluster import NEW, OLD, Cluster
from peerupgrade.demo.load import Client
from peerupgrade.demo.notes import COLLECTION, Json

# What a master writes into the history while an upgrade finishes by itself, in this order.
_FINISHING = ["upgrade began", "floor", "raised", "settled", "converted", "completed"]


@dataclass(slots=True)
class Outcome:
    """The result.

    Attributes:
        served, failed: requests of the client.
        records: notes that were written and acknowledged.
        kept: those that have their last value, read through every node.
        new_format: those that are stored in the format of the new release.
        counted: format -> number of records, as the store has counted them.
        switch_s: from the store's record that the last node has the new version installed, to its
            record that the last node operates at it.
        upgrade_s: from the first node's new version to the end, as the cluster recorded it.
        killed: the node whose agent was killed while it was master.
        operating: node -> version.
        finishing: what the history says of the upgrade: what happened, and who did it.
        pids: of every process that was started.
        problems: why it is not as it has to be.
    """

    cluster: str
    pids: list[int] = field(default_factory=list)
    served: int = 0
    failed: int = 0
    records: int = 0
    kept: int = 0
    new_format: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    switch_s: float | None = None
    upgrade_s: float | None = None
    killed: str = ""
    operating: dict[str, str | None] = field(default_factory=dict)
    finishing: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def count(self, client: Client) -> None:
        """Take over what the client has counted, once, after all of its work."""
        self.served, self.failed = client.served, client.failed
        if client.failed:
            self.problems.append(f"{client.failed} requests failed: {'; '.join(client.reasons)}")

    async def examine(self, cluster: Cluster, client: Client) -> None:
        """Read everything from the cluster, and compare."""
        self.records = len(client.journal)
        self.kept, self.new_format = await client.verify()
        await self._examine_nodes(cluster)
        await self._examine_history(cluster)
        if self.records == 0 or self.kept != self.records:
            self.problems.append(f"{self.kept} of {self.records} notes kept their value")
        if self.new_format != self.records:
            self.problems.append(
                f"{self.new_format} of {self.records} notes are in the format of {NEW.version}"
            )

    async def _examine_nodes(self, cluster: Cluster) -> None:
        for node in cluster.nodes:
            said = await node.ask("/v1/node")
            self.operating[node.name] = said["operating"]
            if {said["installed"], said["operating"], said["acting"]} != {NEW.version}:
                self.problems.append(
                    f"{node.name} operates at {said['operating']}, has {said['installed']} and"
                    f" knows the acting version {said['acting']}"
                )
        installed, operating = cluster.installed_at_ms, cluster.operating_at_ms
        if len(installed) == len(operating) == len(cluster.members):
            self.switch_s = (max(operating.values()) - max(installed.values())) / 1000
        else:
            self.problems.append("not every member was seen to get the new version, and act at it")

    async def _examine_history(self, cluster: Cluster) -> None:
        first = cluster.nodes[0]
        said = await first.ask("/v1/cluster")
        self._examine_data(said)
        completion = said["completion"] or {}
        if (completion.get("before"), completion.get("version")) != (OLD.version, NEW.version):
            self.problems.append(f"the cluster records no end of the upgrade: {completion}")
        else:
            self.upgrade_s = completion["duration_s"]
        entries = (await first.ask("/v1/history?count=1000"))["entries"]
        told = [(entry["kind"], entry["by"]) for entry in reversed(entries)]
        kinds = [kind for kind, _ in told]
        if "upgrade began" in kinds:
            steps = told[kinds.index("upgrade began") :]
            self.finishing = [(kind, by) for kind, by in steps if kind in _FINISHING]
        by_itself = all(by in cluster.members for _, by in self.finishing)
        if [kind for kind, _ in self.finishing] != _FINISHING or not by_itself:
            self.problems.append(f"the history is not that of one upgrade: {self.finishing}")

    def _examine_data(self, said: Json) -> None:
        """The store's own word: its counters, and the data version, which a scan has proven."""
        for one in said["collections"]:
            if one["name"] == COLLECTION:
                self.counted = one["records_by_format"]
        if said["data"] != NEW.version or list(self.counted) != [NEW.version]:
            self.problems.append(
                f"the store counts notes by format as {self.counted}, its data version is"
                f" {said['data']}"
            )

    def to_json(self) -> Json:
        """For programs."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "cluster": self.cluster,
            "requests": {"served": self.served, "failed": self.failed},
            "records": {
                "count": self.records,
                "kept": self.kept,
                "in_new_format": self.new_format,
                "counted_by_format": self.counted,
            },
            "from": OLD.version,
            "to": NEW.version,
            "operating": self.operating,
            "switch_s": self.switch_s,
            "upgrade_s": self.upgrade_s,
            "killed_master": self.killed or None,
            "history": [{"kind": kind, "by": by} for kind, by in self.finishing],
            "pids": self.pids,
        }

    def lines(self) -> list[str]:
        """For people."""
        if self.switch_s is None:
            return [f"FAILED: {problem}" for problem in self.problems]
        steps = ", ".join(kind for kind, _ in self.finishing)
        masters = " and ".join(dict.fromkeys(by for _, by in self.finishing))
        new = NEW.version
        lines = [
            f"requests  {self.served:,} served, {self.failed} failed",
            "          (written and read through every node, the whole time)",
            f"records   {self.kept} of {self.records} kept their last acknowledged value",
            "          (read through every node)",
            f"converted {self.new_format} of {self.records} are in the format of {new}",
            f"          (by the services that know it, as soon as all operated at {new})",
            f"switched  {self.switch_s * 1000:,.0f} ms after the last node got {new}",
            f"          (from the record that it has {new} to the record of the last node's",
            f"          confirmation that it operates at {new}, by the store's clock)",
        ]
        if self.killed:
            lines.append(f"          (meanwhile the agent of {self.killed}, then master, was dead)")
        lines += [f"finished  by itself: {steps}", f"          (decided by {masters})"]
        return lines + [f"FAILED: {problem}" for problem in self.problems]
