"""A node that says what a test tells it to say, and a real server over it."""

import asyncio
import contextlib
import threading
from collections import Counter
from dataclasses import replace

from peerupgrade.core.blockers import Blocker, Code
from peerupgrade.core.gossip.packets import Condition, Heartbeat
from peerupgrade.core.gossip.view import GossipView, Sighting
from peerupgrade.core.membership import NodeState
from peerupgrade.core.record import (
    ClusterRecord,
    Completion,
    Hold,
    Member,
    Slot,
    Snapshot,
    Standing,
    Tombstone,
    Upgrade,
)
from peerupgrade.core.requests import Done, Resolve, Resolved, View
from peerupgrade.core.status import NodeStatus
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import FrameFault
from peerupgrade.http.api import HttpServer
from peerupgrade.http.view import Finding, Ledger, NodeEvent
from peerupgrade.ports import SendFault, Traffic

V1, V2 = parse_version("1.0"), parse_version("2.0")
NOW_MS = 1_780_000_000_123  # of the store's clock; 2026-05-28T20:26:40.123Z
HOUR_MS = 3_600_000

RECORD = ClusterRecord(
    generation="g1",
    revision=12,
    epoch=4,
    master="n1",
    acting=V1,
    floor=V1,
    before=V1,
    data=V1,
    lowest=V1,
    raised_revision=7,
    settled_revision=7,
    raised_at_ms=NOW_MS - 50 * HOUR_MS,
    upgrade=Upgrade("1.0", NOW_MS - 2 * HOUR_MS),
    completion=Completion("0.9", "1.0", NOW_MS - 51 * HOUR_MS, NOW_MS - 50 * HOUR_MS),
    identity="server1",
)
HOLD = Hold("ann@desk", "month-end closing", NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)
MEMBERS = {
    "n1": Member("n1", 3, "proof-of-n1", V2, V1, Standing.SERVING, 12, V1, 7, address="10.0.0.1:1"),
    "n2": Member("n2", 1, "proof-of-n2", V1, V1, Standing.SERVING, 12, V1, 7, lease_ms=30_000),
}
SNAPSHOT = Snapshot(
    RECORD,
    MEMBERS,
    members_revision=9,
    now_ms=NOW_MS,
    identity="server1",
    excluded={"n3": Tombstone("n3", 2, "proof-of-n3", "ann@desk", "disk broken", NOW_MS - 60_000)},
    slots={"n2": Slot("n2", "bob@desk", NOW_MS - 5_000, 1)},
)
OLDER = Blocker(
    Code.OLDER_VERSION,
    "n2",
    NOW_MS - 2 * HOUR_MS,
    "n2 has 1.0 installed, the newest is 2.0",
    "install 2.0 on n2, or exclude it if it is gone for good",
)
GOSSIP = GossipView(
    "n1",
    "10.0.0.1:7946",
    {
        "n1": Sighting(
            Heartbeat("n1", 3, 5, V2, V1, "10.0.0.1:7946", operating=V1, zone="east"),
        ),
        "n2": Sighting(
            Heartbeat(
                *("n2", 1, 9, V1, V1, "10.0.0.2:7946", Condition.SUSPECT, V1),
                by="n4",
                zone="west",
                labels={"rack": "7"},
            ),
            heard_s=12.34567,
            rtt_s=0.0004321,
        ),
        "n4": Sighting(Heartbeat("n4", 1, 1, V2, V1, "10.0.0.4:7946", zone="west"), heard_s=0.25),
    },
)
TRAFFIC = Traffic(
    sent=120,
    sent_bytes=9_876,
    heard=118,
    unsent=Counter({SendFault.NO_ROUTE: 1}),
    refused=Counter({FrameFault.UNKNOWN_KEY: 3, FrameFault.PLAIN: 2}),
)


class FakeNode:
    """Satisfies `NodeView`; every answer is an attribute, every command is noted in `asked`."""

    def __init__(self):
        self.node_status = NodeStatus(
            name="n1",
            state=NodeState.OPERATING,
            reason="",
            installed=V2,
            lowest=V1,
            operating=V1,
            acting=V1,
            incarnation=3,
            epoch=4,
            record=RECORD,
            store_failure="",
            quorum_lost=False,
            failure="",
            step_failure="",
            master_silent_s=0.5,
            suspended_s=0.0,
            store_silent_s=0.0,
            quorum_lost_s=0.0,
        )
        self.is_live = True
        self.rehearsals = []
        self.the_ledger = Ledger((OLDER,), True, NOW_MS, "", SNAPSHOT)
        self.entries = [
            {
                "id": "5-0",
                "at_ms": str(NOW_MS),
                "kind": "raised",
                "by": "n1",
                "epoch": "4",
                "revision": "7",
                "before": "0.9",
                "after": "1.0",
                "inputs": "1.0: n1, n2",
            }
        ]
        self.the_gossip = GOSSIP
        self.findings = [
            Finding("ok", "store", "answers in 0.4 ms"),
            Finding("warning", "n2", "runs another release of peerupgrade", "install the same"),
        ]
        self.reply = Done(View(replace(RECORD, hold=HOLD), "server1"))
        self.resolved = Resolved(1)
        self.error = None
        self.master = True
        self.asked = []
        self.streams = []  # one queue for each listener
        self.newer = None  # set by a test to end a long poll

    def status(self):
        return self.node_status

    def live(self):
        return self.is_live

    def _fail(self):
        if self.error is not None:
            raise self.error

    def knows(self, *, silent=(), **changes):
        """The store's snapshot, changed; `silent`: the nodes that do not answer its gossip."""
        self.the_ledger = replace(
            self.the_ledger, snapshot=replace(self.the_ledger.snapshot, **changes)
        )
        beats = [
            Heartbeat(
                name,
                1,
                1,
                V1,
                V1,
                "10.0.0.9:1",
                Condition.FAILED if name in silent else Condition.ALIVE,
            )
            for name in self.the_ledger.snapshot.members
        ]
        self.the_gossip = replace(GOSSIP, sightings={one.id: Sighting(one) for one in beats})

    def gossip(self):
        return self.the_gossip

    def traffic(self):
        return TRAFFIC if self.the_gossip is not None else None

    async def ledger(self):
        self._fail()
        return self.the_ledger

    async def history(self, count):
        self._fail()
        return self.entries[:count]

    async def change(self, request):
        self.asked.append(request)
        self._fail()
        return self.resolved if isinstance(request, Resolve) else self.reply

    async def steer(self, asked):
        self.asked.append(asked)
        self._fail()
        if getattr(asked, "node", "n1") not in MEMBERS:
            raise KeyError(asked.node)
        return self.reply

    async def exclude(self, name, by, reason, confirm_stopped):
        self.asked.append((name, by, reason, confirm_stopped))
        self._fail()
        if name not in MEMBERS:
            raise KeyError(name)

    async def resign(self):
        self.asked.append("resign")
        return self.master

    async def set_away(self, away):
        self.asked.append(("away", away))

    async def wait_newer(self, revision, timeout_s):
        self.asked.append((revision, timeout_s))
        if self.newer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.newer.wait(), timeout_s)
        return self.node_status.record

    async def events(self):
        queue = asyncio.Queue()
        self.streams.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.streams.remove(queue)

    async def rehearse(self, version, sample):
        self.asked.append((version, sample))
        self._fail()
        return self.rehearsals

    async def doctor(self):
        self._fail()
        return self.findings

    def store_is_away(self):
        note = "the store does not answer (timed out); known as of 20:26:40"
        self.the_ledger = replace(self.the_ledger, live=False, as_of_ms=NOW_MS - 5000, note=note)


def event(text, detail=""):
    return NodeEvent(NOW_MS, "n1", text, detail, 12)


@contextlib.contextmanager
def serving(node, *, listen="127.0.0.1:0", token="secret"):
    """A real server in a thread of its own; gives its URL and its event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start():
        server = HttpServer(node, listen, token)
        return server, await server.start()

    try:
        server, url = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield url, loop
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
