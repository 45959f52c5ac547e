"""Restarts a unit of systemd, and looks at it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from peerupgrade.cli.programs import run_step
from peerupgrade.cli.ready import check_options
from peerupgrade.errors import ConfigError

if TYPE_CHECKING:
    from peerupgrade.runtime.turns import TurnContext

_SETTLE_S = 2.0  # a program that fails at its start is still called active for a moment
_SIGNALS = ("drain_signal", "undrain_signal")
_YES, _NO = "yes", "no"


class Systemd:
    """The steps.

    Args:
        options: `unit`; `user`, `yes` for one of the user's own manager; `drain_signal` and
            `undrain_signal`, sent to its main process, for example `SIGUSR1`: both or none.

    Raises:
        ConfigError: another option, a missing one, or a value that cannot be used.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        check_options("systemd", options, ("unit",), ("user", *_SIGNALS))
        self._unit = options["unit"]
        user = options.get("user", _NO)
        if user not in (_YES, _NO):
            raise ConfigError(f"systemd.user is {user!r}", hint=f"give {_YES} or {_NO}")
        self._systemctl = ["systemctl", *(("--user",) if user == _YES else ())]
        given = [name for name in _SIGNALS if options.get(name)]
        if len(given) == 1:
            raise ConfigError(
                f"systemd.{given[0]} is given alone",
                hint=f"give {' and '.join(_SIGNALS)}: a turn that is given up is undrained, too",
            )
        # Without them there are no such steps.
        self.drain = partial(self._send, options["drain_signal"]) if given else None
        self.undrain = partial(self._send, options["undrain_signal"]) if given else None

    async def restart(self, _context: TurnContext) -> str:
        """Stop the unit, and start it.

        Raises:
            ConfigError: systemctl failed.
        """
        await self._run("stop", self._unit)
        await self._run("start", self._unit)
        return f"{self._unit} was started"

    async def verify(self, _context: TurnContext) -> str:
        """It must be active, and stay so for two seconds.

        Raises:
            ConfigError: it is not.
        """
        await self._run("is-active", self._unit)
        await asyncio.sleep(_SETTLE_S)
        return f"{self._unit} is {await self._run('is-active', self._unit)}"

    def look(self, context: TurnContext) -> bool | None:
        """To restart it once more does no harm; what a signal has done nobody can see."""
        return False if context.step in ("restart", "verify") else None

    async def _send(self, signal: str, _context: TurnContext) -> str:
        # Before systemd 252 the option has this name only, and later ones still take it.
        await self._run("kill", "--kill-who=main", f"--signal={signal}", self._unit)
        return f"{self._unit} got {signal}"

    async def _run(self, *words: str) -> str:
        command = shlex.join([*self._systemctl, *words])
        ran = await run_step("systemd", command, timeout_s=None, variables={})
        if ran.status != 0:
            raise ConfigError(
                f"{command} failed with status {ran.status}",
                hint=" ".join(ran.output.split()) or f"systemctl status {self._unit} may say why",
            )
        return ran.output
