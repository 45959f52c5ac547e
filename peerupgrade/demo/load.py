"""A load balancer, and a client behind it that writes, reads, and remembers what it wrote."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

from aiohttp import ClientError, ClientSession

from peerupgrade.demo.cluster import NEW
from peerupgrade.demo.notes import Json

_WORKERS = 4
_NOTES_EACH = 50
_REQUESTS_PER_S = 200
_REQUESTS_A_TURN = 3
_REASONS_MAX = 3


class Service(NamedTuple):
    """One that takes requests."""

    name: str
    url: str


class Balancer:
    """Gives each request to the next service, as a real one would, in this very process."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._under_way: Counter[str] = Counter()
        self._request_ended = asyncio.Event()
        self._turn = 0
        self.given: Counter[str] = Counter()

    @property
    def services(self) -> list[Service]:
        """All that take requests."""
        return list(self._services.values())

    def add(self, name: str, url: str) -> None:
        """This service takes requests."""
        self._services[name] = Service(name, url)

    async def drain(self, name: str) -> None:
        """It gets no more, and those under way have ended."""
        del self._services[name]
        while self._under_way[name]:
            self._request_ended.clear()
            await self._request_ended.wait()

    @contextmanager
    def next(self) -> Iterator[Service]:
        """The service whose turn it is."""
        self._turn += 1
        service = self.services[self._turn % len(self._services)]
        self.given[service.name] += 1
        self._under_way[service.name] += 1
        try:
            yield service
        finally:
            self._under_way[service.name] -= 1
            self._request_ended.set()


class Client:
    """Writes and reads notes through all services, at a bounded rate.

    Each worker has notes of its own, so what the last acknowledged value is, is never in doubt.
    Nothing is tried twice: each request that fails counts.
    """

    def __init__(self, session: ClientSession, balancer: Balancer) -> None:
        self._session = session
        self._balancer = balancer
        self._ending = False
        self.journal: dict[str, str] = {}  # note -> its last acknowledged value
        self.served = 0
        self.failed = 0
        self.reasons: list[str] = []  # of the first failures

    async def run(self) -> None:
        """Until `end`."""
        await asyncio.gather(*(self._work(worker) for worker in range(_WORKERS)))

    def end(self) -> None:
        """Begin nothing new."""
        self._ending = True

    async def _work(self, worker: int) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _WORKERS * _REQUESTS_A_TURN / _REQUESTS_PER_S
        for turn in count():
            if self._ending:
                return
            begun_s = loop.time()
            note = f"{worker}-{turn % _NOTES_EACH}"
            await self._put(note, f"{note} as written in turn {turn}")
            await self._check(note)
            await self._check(f"{worker}-{turn * 7 % _NOTES_EACH}")
            await asyncio.sleep(max(0.0, begun_s + pause_s - loop.time()))

    async def _put(self, note: str, text: str) -> None:
        self.journal.pop(note, None)  # until it is acknowledged, either value may be there
        with self._balancer.next() as service:
            if await self._send("PUT", service, note, {"text": text}) is not None:
                self.journal[note] = text
                self.served += 1

    async def _check(self, note: str) -> None:
        if note not in self.journal:
            return
        with self._balancer.next() as service:
            await self._read(service, note)

    async def verify(self) -> tuple[int, int]:
        """Read every note through every service.

        Returns:
            How many have their last acknowledged value wherever they are read, and how many of
            these are stored in the format of release 2.0.
        """
        answers = await asyncio.gather(*map(self._read_all, self._balancer.services))
        kept = [note for note in self.journal if all(read[note] is not None for read in answers)]
        stored = {note: (answers[0][note] or {}).get("format") for note in kept}
        new = [note for note in kept if stored[note] == NEW.version]
        return len(kept), len(new)

    async def _read_all(self, service: Service) -> dict[str, Json | None]:
        return {note: await self._read(service, note) for note in self.journal}

    async def _read(self, service: Service, note: str) -> Json | None:
        """None unless it has its last acknowledged value."""
        answer = await self._send("GET", service, note, None)
        if answer is None:
            return None
        if answer["text"] != self.journal[note]:
            self._fail(
                f"{service.name}: {note} says {answer['text']!r} instead of {self.journal[note]!r}"
            )
            return None
        self.served += 1
        return answer

    async def _send(
        self, method: str, service: Service, note: str, body: Json | None
    ) -> Json | None:
        what = f"{service.name}: {method} {note}"
        try:
            async with self._session.request(
                method, f"{service.url}/notes/{note}", json=body
            ) as response:
                answer: Json = await response.json()
        except (ClientError, TimeoutError, ValueError) as error:
            self._fail(f"{what}: {str(error) or type(error).__name__}")
            return None
        if response.status != 200:
            self._fail(f"{what}: {answer.get('error', response.status)}")
            return None
        return answer

    def _fail(self, reason: str) -> None:
        self.failed += 1
        if len(self.reasons) < _REASONS_MAX:
            self.reasons.append(reason)
