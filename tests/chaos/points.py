"""The crash points of a node that runs: what happens at an armed one.

They are those of the core, by the same names. What the node is built from is wrapped, so the node
itself knows nothing of it.
"""

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

from peerupgrade.core import crashpoints
from peerupgrade.core.crashpoints import lock_deed, stored_deed
from peerupgrade.core.requests import Failed, LockReply
from peerupgrade.data.formats import Formats
from peerupgrade.runtime import node as runtime_node

# Nobody wants to go back here.
_NOT_HERE = {"downgrade", "downgraded", "barred"}
CRASH_POINTS = tuple(
    name for name in crashpoints.CRASH_POINTS if _NOT_HERE.isdisjoint(name.split())
)
# Only the very beginning of a cluster passes these.
FIRST_POINTS = ("before init", "after init", "before commit formed", "after commit formed")
# These come seldom, and somebody knows when.
FLOOR_TAKEN_BACK = ("before commit floor withdrawn", "after commit floor withdrawn")
ROLLED_BACK = ("before commit upgrade withdrawn", "after commit upgrade withdrawn")
TURN = ("before turn", "after turn")
TURN_FAILED = (
    "before commit rollout paused",
    "after commit rollout paused",
    "before commit rollout retreats",
    "after commit rollout retreats",
)
HOLD_ENDS = ("before commit hold ended", "after commit hold ended")
# Many nodes pass these, often at the same time; the others one node at a time.
_COMMON = ("remember", "switch", "drain", "admit", "report", "attach", "lock acquire")
COMMON_POINTS = tuple(name for name in CRASH_POINTS if name.partition(" ")[2] in _COMMON)
_EXPECTED = {
    *FIRST_POINTS,
    *FLOOR_TAKEN_BACK,
    *ROLLED_BACK,
    *TURN,
    *TURN_FAILED,
    *HOLD_ENDS,
}
RARE_POINTS = tuple(sorted(set(CRASH_POINTS) - set(COMMON_POINTS) - _EXPECTED))


def actions(name):
    """What can be done at a point.

    Waiting for operations to end cannot fail, and a codec that fails is the operator's to mend.
    What comes only once must not cost the node its mastership, or another one passes the next.
    """
    if name in FIRST_POINTS:
        return ("fail",)
    deed = name.partition(" ")[2]
    return ("die", "pause") if deed in ("drain", "codec") else ("die", "pause", "fail")


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

    async def around(self, deed, doing):
        """Do something between its two points."""
        try:
            self.passed(f"before {deed}")
        except _FailedHereError:
            doing.close()  # it is never begun
            raise
        result = await doing
        self.passed(f"after {deed}")
        return result


class _Store:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points
        self.history, self.aclose = inner.history, inner.aclose

    async def call(self, request):
        try:
            return await self._points.around(stored_deed(request), self._inner.call(request))
        except _FailedHereError as error:
            return Failed(f"failed {error}")


class _Lock:
    def __init__(self, inner, points):
        self._inner, self._points = inner, points
        self.aclose = inner.aclose

    async def call(self, request):
        try:
            return await self._points.around(lock_deed(request), self._inner.call(request))
        except _FailedHereError:
            return LockReply(granted=False, answered=False)


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
                ),
                links,
            )

    class Hooks(runtime_node.Hooks):
        async def switch(self, *args):
            await points.around("switch", super().switch(*args))

    class Steps(runtime_node.Steps):
        async def run(self, *args):
            await points.around("preparation", super().run(*args))

    class TurnSteps(runtime_node.TurnSteps):
        async def run(self, *args):
            return await points.around("turn", super().run(*args))

    class Guards(runtime_node.Guards):
        async def drained(self, *args):
            await points.around("drain", super().drained(*args))

    convert_all = Formats.convert_all

    def armed_convert_all(formats, *args):
        points.passed("before codec")
        done = convert_all(formats, *args)
        points.passed("after codec")
        return done

    Formats.convert_all = armed_convert_all
    runtime_node.connected, runtime_node.Hooks, runtime_node.Guards = armed, Hooks, Guards
    runtime_node.Steps, runtime_node.TurnSteps = Steps, TurnSteps
