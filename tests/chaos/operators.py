"""The people around the cluster: who operates it, and who writes down what the store says."""

import asyncio
import time

from peerupgrade.adapters.redis_bus import RedisBus
from peerupgrade.adapters.redis_scripts import Keys
from peerupgrade.core.requests import (
    All,
    Done,
    Exclude,
    MemberHeard,
    NotMember,
    Read,
    ReadAll,
    Refused,
    ReleaseHold,
    SetHold,
    Subscribed,
    View,
)
from tests.chaos.client import connect, read_value
from tests.chaos.journal import CLOCK_ERROR_S, now_s
from tests.support.observer import Observer

_AGAIN_S = 0.2
_ASK_S = 0.02
_PERSIST_S = 60.0
_OPERATOR = "operator"


class History:
    """Every entry that the store ever wrote, also those that it lost."""

    def __init__(self, cluster, journal):
        self._keys, self._journal = Keys(cluster), journal
        self._seen = set()

    async def read(self, server):
        """Write down what is new in this server's history."""
        self._note(await server.ask("XRANGE", self._keys.history, "-", "+"))

    async def read_and_flush(self, server):
        """The last words of a store that is wiped; gives the names of its members."""
        async with server.client() as client, client.pipeline(transaction=True) as pipe:
            pipe.xrange(self._keys.history)
            pipe.hkeys(self._keys.members)
            pipe.flushall()
            entries, members, _ = await pipe.execute()
        self._note(entries)
        return members

    def _note(self, entries):
        offset_s = now_s() - time.time()
        for entry_id, fields in entries:
            if entry_id in self._seen:
                continue
            self._seen.add(entry_id)
            self._journal.write(
                "history",
                at_s=int(fields["at_ms"]) / 1000 + offset_s,
                step=fields["kind"],
                **{name: fields[name] for name in ("by", "before", "after", "inputs")},
                **{name: int(fields[name]) for name in ("epoch", "revision")},
            )


class Operator(Observer):
    """Holds, releases, excludes, and asks the store what it acts at."""

    def __init__(self, url, cluster, journal):
        super().__init__(url, cluster)
        self.url, self.cluster, self._journal = url, cluster, journal
        self._registered = set()
        self._excluded = {}  # name -> (incarnation, whether its process was stopped)

    # --- commands: each is repeated until the store has answered ----------------------------------

    async def hold(self, for_s=0.0):
        """Only an acknowledged hold counts. `for_s` 0: until it is released."""
        until_s = time.time() + for_s
        request = SetHold(_OPERATOR, "chaos", round(until_s * 1000) if for_s else 0)
        reply = await self._until_answered(request, Done)
        hold = reply.view.record.hold.at_ms
        self._journal.write("held", hold=hold)
        if for_s:
            left_s = max(0.0, until_s - time.time() - CLOCK_ERROR_S)
            self._journal.write("releasing", at_s=now_s() + left_s, hold=hold)

    async def release(self):
        self._journal.write("releasing", hold=0)
        await self._until_answered(ReleaseHold(_OPERATOR), Done, Refused)

    async def exclude(self, name, *, confirm_stopped=True):
        """Its process is certainly stopped, or its lease will have ended."""
        async with asyncio.timeout(_PERSIST_S):
            while True:
                reply = await self.store.call(ReadAll())
                # A member that is gone may be what keeps the store from being verified.
                if isinstance(reply, All) and reply.snapshot.record is not None:
                    member = reply.snapshot.members.get(name)
                    if member is None:
                        return
                    if await self._exclude_one(name, member.incarnation, confirm_stopped):
                        return
                await asyncio.sleep(_AGAIN_S)

    async def _exclude_one(self, name, incarnation, confirm_stopped):
        request = Exclude(name, _OPERATOR, "chaos", confirm_stopped, incarnation)
        reply = await self.store.call(request)
        if isinstance(reply, Done):
            self._excluded[name] = (incarnation, confirm_stopped)
            self._journal.write("excluded", name=name, incarnation=incarnation)
        return isinstance(reply, Done | NotMember)

    async def exclude_ghosts(self, names):
        """Members that left or were excluded, and came back when a failover forgot that.

        Args:
            names: of the nodes that there are.
        """
        snapshot = await self.snapshot()
        if snapshot is None:
            return
        for name, member in snapshot.members.items():
            incarnation, was_stopped = self._excluded.get(name, (0, True))
            if name not in names or member.incarnation <= incarnation:
                await self._exclude_one(name, member.incarnation, was_stopped)

    async def _until_answered(self, request, *answers):
        async with asyncio.timeout(_PERSIST_S):
            while not isinstance(reply := await self.store.call(request), answers):
                await asyncio.sleep(_AGAIN_S)
        return reply

    # --- watching: tasks that run until they are cancelled ----------------------------------------

    async def watch_members(self):
        """Write down who is registered."""
        stale = asyncio.Event()

        def hear(heard):
            match heard:
                case MemberHeard(id=name, member=member):
                    self._note_member(name, registered=member is not None)
                case Subscribed():
                    stale.set()

        listening = asyncio.create_task(
            RedisBus(self.link, self.cluster).listen(hear, members=True)
        )
        try:
            while True:
                await stale.wait()
                snapshot = await self.snapshot()
                if snapshot is None:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                stale.clear()
                for name in self._registered | set(snapshot.members):
                    self._note_member(name, registered=name in snapshot.members)
        finally:
            listening.cancel()

    def _note_member(self, name, *, registered):
        (self._registered.add if registered else self._registered.discard)(name)
        self._journal.write("member", name=name, registered=registered)

    async def ask_acting(self):
        """Read the acting version all the time, as a client that trusts only a verified store."""
        while True:
            await asyncio.sleep(_ASK_S)
            began_s = now_s()
            reply = await self.store.call(Read())
            if isinstance(reply, View) and reply.verified and reply.record.acting:
                self._journal.write("asked", began_s=began_s, acting=str(reply.record.acting))

    async def read_all_values(self, keys):
        """Once more, when everything has come to rest."""
        client = connect(self.url, timeout_s=_PERSIST_S)
        for key in sorted(keys):
            await read_value(client, self._journal, key)
        await client.aclose()
