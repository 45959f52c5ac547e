"""The crash points of a node: moments between two effects, and what happens at an armed one.

Ports are wrapped where the node is built, so the node itself knows nothing of it.
"""

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

from peerupgrade.core.requests import (
    Acquire,
    Admit,
    Attach,
    Claim,
    Commit,
    Extend,
    Failed,
    Leave,
    LockReply,
    RecordHeard,
    Release,
    Report,
)
from peerupgrade.runtime import node as runtime_node

_STORE_NAMES = {Admit: "admit", Report: "report", Attach: "attach", Claim: "claim", Leave: "leave"}
_LOCK_NAMES = {Acquire: "lock acquire", Extend: "lock extend", Release: "lock release"}
_COMMITS = ("upgrade began", "floor", "raised", "settled", "converted", "completed", "verified")
_WHENS = ("before", "after")

# Many nodes pass these, often at the same time.
COMMON_POINTS = tuple(
    f"{when} {what}"
    for what in ("remember", "admit", "report", "attach", "hearing of a record", "lock acquire")
    for when in _WHENS
)
# One node at a time passes these.
RARE_POINTS = tuple(
    f"{when} {what}"
    for what in (
        *("claim", "lock extend", "lock release", "leave"),
        *(f"commit {step}" for step in _COMMITS),
    )
    for when in _WHENS
)
POINTS = COMMON_POINTS + RARE_POINTS
ACTIONS = ("die", "pause", "fail")


class _FailedHereError(Exception):
    """The armed point says that this fails."""


class Points:
    """At most one point for each slot is armed; it disarms itself when it is reached.

    Args:
        reached: called with the name and the action, before that is taken.
        armed: slot -> (name, action), from the start on.
    """

    def __init__(self, reached, armed):
        self._reached = reached
        self.arm(armed)

    def arm(self, armed):
        """These, and no others."""
        self._armed = dict(armed)

    def passed(self, name):
        """The node is at this point.

        Raises:
            _FailedHereError: what comes next shall fail, or what was done seems to have failed.
        """
        for slot, (armed, action) in list(self._armed.items()):
            if armed != name:
                continue
            del self._armed[slot]
            self._reached(name, action)
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif action == "pause":
                os.kill(os.getpid(), signal.SIGSTOP)  # until somebody continues it
            else:
                raise _FailedHereError(name)


class _Store:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points
        self.history, self.aclose = inner.history, inner.aclose

    async def call(self, request):
        commit = isinstance(request, Commit)
        name = f"commit {request.step}" if commit else _STORE_NAMES.get(type(request))
        try:
            self._points.passed(f"before {name}")
            reply = await self._inner.call(request)
            self._points.passed(f"after {name}")
        except _FailedHereError as error:
            return Failed(f"failed {error}")
        return reply


class _Lock:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points
        self.aclose = inner.aclose

    async def call(self, request):
        name = _LOCK_NAMES[type(request)]
        try:
            self._points.passed(f"before {name}")
            reply = await self._inner.call(request)
            self._points.passed(f"after {name}")
        except _FailedHereError:
            return LockReply(granted=False, answered=False)
        return reply


class _Disk:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points
        self.load = inner.load

    def save(self, memory):
        try:
            self._points.passed("before remember")
            self._inner.save(memory)
            self._points.passed("after remember")
        except _FailedHereError as error:
            raise OSError(f"failed {error}") from None


class _Bus:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points

    async def listen(self, hear, *, members):
        def hear_one(heard):
            try:
                if isinstance(heard, RecordHeard):
                    self._points.passed("before hearing of a record")
                hear(heard)
                if isinstance(heard, RecordHeard):
                    self._points.passed("after hearing of a record")
            except _FailedHereError:
                pass  # the message is lost, or was the last thing that worked

        await self._inner.listen(hear_one, members=members)


def install(points):
    """Every node that this process builds from here on has the points."""
    connected = runtime_node.connected

    @asynccontextmanager
    async def armed(settings):
        async with connected(settings) as (ports, links):
            yield (
                replace(
                    ports,
                    store=_Store(ports.store, points),
                    locks=[_Lock(lock, points) for lock in ports.locks],
                    disk=_Disk(ports.disk, points),
                    bus=_Bus(ports.bus, points),
                ),
                links,
            )

    runtime_node.connected = armed
