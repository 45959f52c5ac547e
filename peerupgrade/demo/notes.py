"""What both releases of the little service share: HTTP, the store, and the word of the agent.

A release brings how it writes and reads a note; what it may write is the agent's to say. The agent
is asked as a program in any language would ask it, over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from redis.asyncio import Redis

from peerupgrade.core.versions import Version, parse_version
from peerupgrade.http.discovery import find

Json: TypeAlias = dict[str, Any]
IsActive: TypeAlias = Callable[[str], bool]
Write: TypeAlias = Callable[[str, IsActive], object]
Read: TypeAlias = Callable[[object], Json]

STORE_VARIABLE = "NOTES_STORE"
_WAIT_S = 2
_PAUSE_S = 0.05


def serve(file: str, write: Write, read: Read) -> None:
    """Run one release until SIGTERM; its first line on stdout is its URL.

    The arguments of the process are the names of the cluster and of the node.

    Args:
        file: of the release, with a file VERSION beside it.
        write: makes what is stored from a text.
        read: makes an answer from what is stored; ValueError if it cannot be read.
    """
    version = Path(file).with_name("VERSION").read_text(encoding="utf-8").strip()
    cluster, node = sys.argv[1:]
    asyncio.run(_serve(version, write, read, _Agent(cluster, node)))


async def _serve(version: str, write: Write, read: Read, agent: _Agent) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with aclosing(Redis.from_url(os.environ[STORE_VARIABLE])) as store:
        notes = _Notes(version, write, read, agent, store)
        runner = web.AppRunner(notes.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        following = asyncio.create_task(agent.follow())
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await ended.wait()
        await runner.cleanup()
        following.cancel()


class _Agent:
    """What the node's agent says.

    While it is gone, or has only just started and does not know yet, its last word stands: the node
    stays a member meanwhile, so the cluster does not go on without it.
    """

    def __init__(self, cluster: str, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self.operating: Version | None = None

    def is_active(self, version: str) -> bool:
        """May this service write what `version` brought?"""
        return self.operating is not None and self.operating >= parse_version(version)

    async def follow(self) -> None:
        """Know at any time what the node operates at."""
        revision = 0
        async with ClientSession(
            timeout=ClientTimeout(_WAIT_S * 2), raise_for_status=True
        ) as session:
            while True:
                try:
                    revision = await self._ask(session, revision)
                except (ClientError, TimeoutError):
                    revision = 0
                if not revision:
                    await asyncio.sleep(_PAUSE_S)

    async def _ask(self, session: ClientSession, revision: int) -> int:
        """Ask once there is a newer revision, or after a while.

        Returns:
            The revision that the agent operates by; 0: it is on its way, so ask again soon.
        """
        known = [a for a in find() if (a.cluster, a.name) == (self._cluster, self._node)]
        if not known:
            return 0
        wait = {"wait": revision, "timeout_s": _WAIT_S}
        async with session.get(f"{known[0].url}/v1/acting", params=wait):
            pass
        async with session.get(f"{known[0].url}/v1/node") as response:
            said: Json = await response.json()
        if said["state"] == "starting":
            return 0
        operating = said["operating"]
        self.operating = parse_version(operating) if operating else None
        return said["revision"] if operating == said["acting"] else 0


class _Notes:
    """The routes."""

    def __init__(self, version: str, write: Write, read: Read, agent: _Agent, store: Redis) -> None:
        self._version = version
        self._write = write
        self._read = read
        self._agent = agent
        self._store = store

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/version", self._get_version)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/notes/{id}", self._get)
        app.router.add_put("/notes/{id}", self._put)
        return app

    async def _get_version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": self._version})

    async def _readyz(self, _request: web.Request) -> web.Response:
        self._check_operating()
        return web.json_response({"ready": True})

    async def _get(self, request: web.Request) -> web.Response:
        self._check_operating()
        raw = await self._store.get(self._key(request))
        if raw is None:
            return web.json_response({"error": "there is no such note"}, status=404)
        try:
            return web.json_response(self._read(json.loads(raw)))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=500)

    async def _put(self, request: web.Request) -> web.Response:
        text = (await request.json())["text"]
        self._check_operating()  # after the last wait: the answer decides how it is stored
        stored = self._write(text, self._agent.is_active)
        await self._store.set(self._key(request), json.dumps(stored))
        return web.json_response({})

    def _check_operating(self) -> None:
        if self._agent.operating is None:
            body = json.dumps({"error": "the node does not operate now"})
            raise web.HTTPServiceUnavailable(text=body, content_type="application/json")

    @staticmethod
    def _key(request: web.Request) -> str:
        return f"notes:{request.match_info['id']}"
