"""Connections whose protocol is our own.

Theory of operation: the library makes a connection (address, TLS, password) and closes it; between,
its transport is taken over. What the library does around a command (a pool, a lock, a timeout and a
task for each write) costs more than the command, and its subscriber more than the message.

On a line a command goes out as soon as it is asked, and answers come in the order of the commands.
A line that fails once is lost: whatever was under way on it may or may not have been done.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from hiredis import Reader, pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import InvalidResponse, NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from peerupgrade.adapters.redis_scripts import Script

Arg = str | bytes | int


class Connection(asyncio.Protocol):
    """What is done with the bytes that come on a connection of the library.

    Args:
        client: of the library, with one connection; it still closes that.
        encoding: of texts; "": they are bytes.

    Attributes:
        lost: done once the connection is, with the reason.
    """

    def __init__(self, client: Redis, encoding: str) -> None:
        assert client.connection is not None
        writer = client.connection._writer  # noqa: SLF001 - there is no other way to it
        assert writer is not None
        self._transport = writer.transport
        self._library = self._transport.get_protocol()
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            encoding=encoding or None,
            errors="replace",  # what cannot be read will be told by whoever knows what it is
        )
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._transport.set_protocol(self)

    def send(self, *command: Arg) -> None:
        """Write a command, without waiting."""
        # The library's types say a tuple of one; it takes any.
        self._transport.write(pack_command(command))  # type: ignore[arg-type]

    @abstractmethod
    def said(self, reply: Any) -> None:
        """The server said something; an error is an exception of the library."""

    def data_received(self, data: bytes) -> None:
        """Bytes came: hear everything that is complete."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self.said(reply)
        except InvalidResponse as error:
            self.lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self.lose(exc or ConnectionResetError())
        self._library.connection_lost(exc)  # which waits for it when it closes the connection

    def lose(self, reason: Exception) -> None:
        """It cannot be used any more."""
        if not self.lost.done():
            self.lost.set_result(reason)
            self._transport.abort()


class Line(Connection):
    """A connection for commands; see above.

    Args:
        client: of the library, with one connection.
        timeout_s: for each answer; without one in time the line is lost.
        binary: answers are bytes instead of text.
    """

    def __init__(self, client: Redis, timeout_s: float, *, binary: bool = False) -> None:
        super().__init__(client, "" if binary else "utf-8")
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[float, asyncio.Future[Any]]] = deque()  # until when, and who
        self._timer: asyncio.TimerHandle | None = None  # for the first of them

    async def ask(self, *command: Arg) -> Any:
        """One command, at most once; the errors are the library's, and the system's."""
        if self.lost.done():
            raise self.lost.result()
        self.send(*command)
        answer = self._loop.create_future()
        self._asked.append((self._loop.time() + self._timeout_s, answer))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)
        return await answer

    async def run(self, script: Script, keys: Sequence[str | bytes], *args: Arg) -> list[Any]:
        """Run a script once; the errors as of `ask`."""
        try:
            answer = await self.ask(b"EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:  # so it has not run
            answer = await self.ask(b"EVAL", script.source, len(keys), *keys, *args)
        return cast("list[Any]", answer)

    def said(self, reply: Any) -> None:
        """The answer to the oldest command that has none."""
        if not self._asked:
            raise InvalidResponse("an answer that nobody asked for")
        _, answer = self._asked.popleft()
        if answer.done():
            return  # whoever asked does not wait any more
        if isinstance(reply, RedisError):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def lose(self, reason: Exception) -> None:
        """Nothing that is under way will be answered."""
        super().lose(reason)
        asked, self._asked = self._asked, deque()
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(reason)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Whether the oldest answer is due; one timer is enough for all, and seldom set."""
        self._timer = None
        if not self._asked:
            return
        rest_s = self._asked[0][0] - self._loop.time()
        if rest_s > 0:
            self._timer = self._loop.call_later(rest_s, self._look)
        else:
            self.lose(RedisTimeoutError("no answer in time"))
