"""A TCP proxy that can be pointed elsewhere, cut, and made to swallow or to hold back bytes."""

import asyncio
import contextlib
from enum import Flag, auto

_CHUNK_BYTES = 65536


class Way(Flag):
    """Which bytes a fault is about."""

    REQUESTS = auto()  # from the client to the server
    REPLIES = auto()
    BOTH = REQUESTS | REPLIES


_NEITHER = Way(0)


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`, a `(host, port)`; None refuses."""

    def __init__(self, target):
        self.target = target
        self._tasks = set()
        self._writers = set()
        self._refuses = False
        self._swallow = _NEITHER
        self._flows = asyncio.Event()  # cleared while bytes are held back
        self._flows.set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.target = None
        self.heal()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self):
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def point_at(self, target):
        """Send new connections elsewhere, and end the old ones."""
        self.target = target
        self.cut()

    def refuse(self):
        """Until `heal` nobody gets through, and everybody is told at once."""
        self._refuses = True
        self.cut()

    def swallow(self, way):
        """From now on bytes that go this way are lost, and nobody is told."""
        self._swallow = way

    def hold(self):
        """From now on bytes wait here, both ways, until `heal`."""
        self._flows.clear()

    def heal(self):
        """Forward again. What was held back arrives now; where bytes are missing, cut."""
        if self._swallow:
            self.cut()
        self._refuses, self._swallow = False, _NEITHER
        self._flows.set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.target is None or self._refuses:
                return
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self.target)
                self._writers.add(far_writer)
                try:
                    await asyncio.gather(
                        self._pump(reader, far_writer, Way.REQUESTS),
                        self._pump(far_reader, writer, Way.REPLIES),
                    )
                finally:
                    self._writers.discard(far_writer)
                    far_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pump(self, reader, writer, way):
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flows.wait()
                if way in self._swallow:
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
