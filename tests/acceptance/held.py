"""`peerupgrade node`, held once between two steps: `python -m tests.acceptance.held node`.

What a command does in a step can wait by itself. To leave and to return are the node's own: here it
waits before it asks that of the store, or after the store has done it and before the node hears.
HELD_AT has the step, "before" or "after", the version of the turn, and the directory in which
`within` has the name of the node while it waits; `once` says that one has waited.
"""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from peerupgrade.cli import main
from peerupgrade.core.record import Standing, TurnStep
from peerupgrade.core.requests import Admit, Report
from peerupgrade.runtime.driver import Driver

_LOOK_AGAIN_S = 0.02


class HeldStore:
    """The store of a node that is driven; others ask the store itself."""

    def __init__(self, store, core):
        self._store, self._core = store, core
        self._step, self._moment, self._version, directory = os.environ["HELD_AT"].split(maxsplit=3)
        self._within, self._once = Path(directory, "within"), Path(directory, "once")

    async def call(self, request):
        here = self._is_it(request)
        if here and self._moment == "before":
            await self._hold()
        reply = await self._store.call(request)
        if here and self._moment == "after":
            await self._hold()
        return reply

    def _is_it(self, request):
        work = self._core.membership.memory.work
        if work is None or (str(work.step), work.version) != (self._step, self._version):
            return False
        if work.step is TurnStep.LEAVE:
            return isinstance(request, Report) and request.standing is Standing.AWAY
        return isinstance(request, Admit)

    async def _hold(self):
        if self._once.exists():
            return
        self._once.touch()
        self._within.write_text(self._core.membership.config.id)
        while self._within.exists():
            await asyncio.sleep(_LOOK_AGAIN_S)


class HeldDriver(Driver):
    def __init__(self, core, ports, *others):
        super().__init__(core, replace(ports, store=HeldStore(ports.store, core)), *others)


if __name__ == "__main__":
    from peerupgrade.runtime import node

    node.Driver = HeldDriver
    sys.exit(main(sys.argv[1:]))
