"""Agents of Serf, the peer that gossip is compared with, and what they tell of each other."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from benchmarks.peers import end, free_port

HOW_TO_GET = "apt install serf"
_JOIN_TIMEOUT_S = 60.0
_SEEN_TIMEOUT_S = 75.0  # an event that was lost comes with a full exchange, every 30 s
_ATTEMPTS = 3
_JOINS_AT_ONCE = 10


def is_installed() -> bool:
    """Whether the program is there."""
    return shutil.which("serf") is not None


class SerfAgent:
    """One agent, with its address and a connection that follows its events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bind, self.rpc = free_port(), free_port()
        self.process: asyncio.subprocess.Process
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._numbers = itertools.count(1)
        self._following: asyncio.Task[None]
        self.seen_s: dict[tuple[str, str], float] = {}  # (event, node and its tag) -> when
        self.members = {name}  # of itself it may have told before anybody listened

    async def start(self) -> None:
        """Begin, and listen to what it tells; another one may have taken a free port meanwhile."""
        async with asyncio.timeout(_JOIN_TIMEOUT_S):
            while not await self._try():
                self.bind, self.rpc = free_port(), free_port()
        self._ask("handshake", {"Version": 1})
        self._ask("stream", {"Type": "member-join,member-update,member-failed,member-leave,user"})
        self._following = asyncio.create_task(self._follow())

    async def _try(self) -> bool:
        self.process = await asyncio.create_subprocess_exec(
            "serf", "agent", f"-node={self.name}", f"-bind=127.0.0.1:{self.bind}",
            f"-rpc-addr=127.0.0.1:{self.rpc}", "-profile=lan", "-log-level=err",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        while self.process.returncode is None:
            try:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.rpc)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return True
        return False

    def join(self, other: SerfAgent) -> None:
        """Become a member of the other one's cluster."""
        self._ask("join", {"Existing": [f"127.0.0.1:{other.bind}"], "Replay": False})

    def set_tag(self, value: str) -> float:
        """Change a tag; gives the moment."""
        began_s = time.monotonic()
        self._ask("tags", {"Tags": {"v": value}, "DeleteTags": []})
        return began_s

    def send_event(self, name: str) -> float:
        """A user event; gives the moment."""
        began_s = time.monotonic()
        self._ask("event", {"Name": name, "Payload": b"2.0", "Coalesce": False})
        return began_s

    def _ask(self, command: str, body: dict[str, Any]) -> None:
        head = msgpack.packb({"Command": command, "Seq": next(self._numbers)})
        self._writer.write(head + msgpack.packb(body))

    async def _follow(self) -> None:
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        while data := await self._reader.read(65536):
            now_s = time.monotonic()
            unpacker.feed(data)
            for item in unpacker:
                if not isinstance(item, dict) or "Event" not in item:
                    continue
                if "Members" in item:
                    self._hear(item, now_s)
                elif "Name" in item:
                    self.seen_s.setdefault(("user", _text(item["Name"])), now_s)

    def _hear(self, item: dict[str, Any], now_s: float) -> None:
        for member in item["Members"]:
            name, tag = _text(member["Name"]), (member.get("Tags") or {}).get("v", "")
            if item["Event"] == "member-join":
                self.members.add(name)
            key = (item["Event"], f"{name} {_text(tag)}".strip())
            self.seen_s.setdefault(key, now_s)

    async def stop(self) -> None:
        """End it, at once."""
        self._following.cancel()
        self._writer.close()
        await end(self.process)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def to_last_agent(agents: Sequence[SerfAgent], key: tuple[str, str], began_s: float) -> float:
    """Seconds until the last of these agents has seen something."""
    async with asyncio.timeout(_SEEN_TIMEOUT_S):
        while any(key not in agent.seen_s for agent in agents):
            await asyncio.sleep(0.05)
    return max(agent.seen_s[key] for agent in agents) - began_s


async def user_events(count: int, trials: Iterable[int]) -> list[float]:
    """So many agents: milliseconds from sending a user event until the last one has it."""
    took_ms = []
    async with serf_cluster(count) as agents:
        for trial in trials:
            name = f"raised-{trial}"
            began_s = agents[0].send_event(name)
            took_ms.append(await to_last_agent(agents, ("user", name), began_s) * 1000)
    return took_ms


@asynccontextmanager
async def serf_cluster(count: int) -> AsyncIterator[list[SerfAgent]]:
    """Agents that all know each other; all are ended at the end.

    Raises:
        RuntimeError: they did not find together.
    """
    for _ in range(_ATTEMPTS):
        started: list[SerfAgent] = []
        try:
            if await _found_together(started, count):
                yield started
                return
        finally:
            await asyncio.gather(*(agent.stop() for agent in started))
    raise RuntimeError(f"{count} agents of Serf did not find together in {_ATTEMPTS} attempts")


async def _found_together(started: list[SerfAgent], count: int) -> bool:
    """Start agents, and join them again and again; False if some never tell of all others."""
    for number in range(count):
        agent = SerfAgent(f"s{number}")
        await agent.start()
        started.append(agent)
        if number:
            agent.join(started[0])
    try:
        async with asyncio.timeout(_JOIN_TIMEOUT_S + count):
            while missing := [agent for agent in started if len(agent.members) < count]:
                for agent in missing[:_JOINS_AT_ONCE]:  # so many at once that some were refused
                    agent.join(started[0])
                await asyncio.sleep(2.0)
    except TimeoutError:
        return False
    await asyncio.sleep(2.0)  # what joining has stirred up settles
    return True
