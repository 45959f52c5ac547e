"""What both releases of the little service share: HTTP, and a collection with its notes.

A release brings how a note looks and the format in which it is stored; which format is written, and
when the older records are converted, is the collection's to say. For that the service embeds a node
of its own, a member of the cluster beside the agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from peerupgrade.data.collection import Collection
from peerupgrade.errors import PeerUpgradeError, StaleVersionError
from peerupgrade.runtime.node import Node
from peerupgrade.settings import Settings

Json: TypeAlias = dict[str, Any]
Register: TypeAlias = Callable[[Collection], None]
Write: TypeAlias = Callable[[str], object]
Read: TypeAlias = Callable[[Any], Json]

COLLECTION = "notes"
STORE_VARIABLE = "NOTES_STORE"
QUARANTINE_S, STOP_TIMEOUT_S = 1.0, 3.0
_AGAIN_S, _TRIES = 0.01, 200


def member_name(node: str) -> str:
    """The name of the member that a service embeds."""
    return f"{node}-notes"


def serve(file: str, register: Register, write: Write, read: Read) -> None:
    """Run one release until SIGTERM; its first line on stdout is its URL.

    The arguments of the process are the names of the cluster and of the node, and how many members
    there will be. What its own node remembers is in the current directory.

    Args:
        file: of the release, with a file VERSION beside it.
        register: the formats of the collection.
        write: makes a note of the newest format from a text.
        read: makes an answer from a note of that format; ValueError if it cannot be read.
    """
    version = Path(file).with_name("VERSION").read_text(encoding="utf-8").strip()
    cluster, name, members = sys.argv[1:]
    settings = Settings(
        name=member_name(name),
        cluster=cluster,
        installed=version,
        store=os.environ[STORE_VARIABLE],
        state_dir="service-state",
        bootstrap_expect=int(members),
        quarantine_s=QUARANTINE_S,
        on_stop="stay",
        stop_timeout_s=STOP_TIMEOUT_S,
    )
    node = Node(settings)
    register(node.collection(COLLECTION))
    asyncio.run(_serve(_Notes(node, write, read)))


async def _serve(notes: _Notes) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await notes.node.start()
    runner = web.AppRunner(notes.app(), access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        told = asyncio.create_task(ended.wait())
        broken = asyncio.create_task(notes.node.ended())
        await asyncio.wait((told, broken), return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise broken.result()
        broken.cancel()
    finally:
        await runner.cleanup()
        await notes.node.stop()


class _Notes:
    """The routes."""

    def __init__(self, node: Node, write: Write, read: Read) -> None:
        self.node = node
        self._notes = node.collection(COLLECTION)
        self._write = write
        self._read = read

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/version", self._get_version)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/notes/{id}", self._get)
        app.router.add_put("/notes/{id}", self._put)
        return app

    async def _get_version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": self.node.settings.installed})

    async def _readyz(self, _request: web.Request) -> web.Response:
        self._check_operating()
        return web.json_response({"ready": True})

    async def _get(self, request: web.Request) -> web.Response:
        self._check_operating()
        try:
            record = await self._notes.get(request.match_info["id"])
            if record is None:
                return web.json_response({"error": "there is no such note"}, status=404)
            return web.json_response({**self._read(record.value), "format": record.format})
        except (PeerUpgradeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=500)

    async def _put(self, request: web.Request) -> web.Response:
        note = self._write((await request.json())["text"])
        for _ in range(_TRIES):
            self._check_operating()
            try:
                await self._notes.put(request.match_info["id"], note)
            except StaleVersionError:  # the version rises at this moment: in the new format, then
                await asyncio.sleep(_AGAIN_S)
            except PeerUpgradeError as error:
                return web.json_response({"error": str(error)}, status=500)
            else:
                return web.json_response({})
        return web.json_response({"error": "the node does not switch"}, status=503)

    def _check_operating(self) -> None:
        if self.node.operating is None:
            body = json.dumps({"error": "the node does not operate now"})
            raise web.HTTPServiceUnavailable(text=body, content_type="application/json")
