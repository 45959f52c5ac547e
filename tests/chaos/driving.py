"""A person who lets the cluster drive an upgrade, and who does what a rollout asks for."""

import asyncio

from peerupgrade.core.requests import Done
from peerupgrade.core.rollout import brought, has_stopped, work_on
from peerupgrade.core.steering import Abort, Resume, Retry, Start, steer
from peerupgrade.core.strategy import Strategy
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import RefusedError

_BY = "driver"
_AGAIN_S = 0.2


class Driver:
    """Brings every member to a version by rollouts; `run` does it.

    Args:
        operator: has the store.
        journal: of the run.
        version: that all shall have.
        failures: so many members may fail before a rollout pauses.
        rolls_back: once, when this many have it; 0: never.
    """

    def __init__(self, operator, journal, version, failures, rolls_back):
        self._operator, self._journal, self._version = operator, journal, version
        self._strategy = Strategy(failures=failures)
        self._rolls_back = rolls_back

    async def run(self):
        """Until cancelled: the store may forget a rollout at any moment."""
        while True:
            snapshot = await self._operator.snapshot()
            if snapshot is not None and snapshot.verified and snapshot.record.acting is not None:
                await self._look(snapshot)
            await asyncio.sleep(_AGAIN_S)

    async def all_have_it(self):
        """Wait for it, however often the store forgets."""
        while True:
            snapshot = await self._operator.snapshot()
            if snapshot is not None and snapshot.members and self._have_it(snapshot):
                return
            await asyncio.sleep(_AGAIN_S)

    def _have_it(self, snapshot):
        version = parse_version(self._version)
        return all(member.installed >= version for member in snapshot.members.values())

    async def _look(self, snapshot):
        asked = self._asked(snapshot)
        if asked is None:
            return
        try:
            request = steer(snapshot, asked)
        except RefusedError:
            return  # as things are; they will change
        reply = await self._operator.store.call(request)
        if isinstance(reply, Done) and isinstance(asked, Abort):
            self._rolls_back = 0
            self._journal.write("rolled back", version=self._version)

    def _asked(self, snapshot):
        rollout = snapshot.record.rollout
        if rollout is None:
            start = Start(self._version, _BY, strategy=self._strategy)
            return None if self._have_it(snapshot) else start
        if rollout.pause is not None:
            stopped = (
                turn.node
                for turn in rollout.turns
                if has_stopped(work_on(snapshot.members.get(turn.node), turn), turn)
            )
            node = next(stopped, None)
            return Resume(_BY) if node is None else Retry(node, _BY)
        if 0 < self._rolls_back <= len(brought(snapshot)):
            return Abort(_BY, rollback=True)
        return None
