"""The commands that a node runs in its turn of a rollout."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from peerupgrade.cli.programs import Ran, run_step
from peerupgrade.cli.ready import STEPS
from peerupgrade.cli.sources import Extra
from peerupgrade.errors import ConfigError

if TYPE_CHECKING:
    from peerupgrade.runtime.turns import LookAtStep, RunStep, TurnContext

log = logging.getLogger("peerupgrade")

_BY_ITSELF = ("install", "verify")  # what is installed shows; to verify changes nothing
_LOOKED = {0: True, 1: False}  # exit status -> the step was done
_SAID_CHARS_MAX = 200


def turn_commands(extra: Extra) -> dict[str, tuple[RunStep, LookAtStep | None]]:
    """What runs for each step that has a command, and what looks whether it was done."""
    return {
        step: (_runs(extra, step), None if step in _BY_ITSELF else _looks(extra))
        for step in STEPS
        if getattr(extra, f"{step}_command")
    }


def _runs(extra: Extra, step: str) -> RunStep:
    async def run(context: TurnContext) -> str:
        setting = f"{step}_command"
        ran = await _run(extra, setting, context)
        log.info("%s: %s", setting, ran.output)
        said = " ".join(ran.output.split())[-_SAID_CHARS_MAX:]
        if ran.status != 0:
            raise ConfigError(
                f"{setting} failed with status {ran.status}", hint=said or "it said nothing"
            )
        return said

    return run


def _looks(extra: Extra) -> LookAtStep:
    async def look(context: TurnContext) -> bool | None:
        if not extra.look_command:
            return None
        return _LOOKED.get((await _run(extra, "look_command", context)).status)

    return look


async def _run(extra: Extra, setting: str, context: TurnContext) -> Ran:
    variables = {
        "PEERUPGRADE_STEP": context.step,
        "PEERUPGRADE_VERSION": context.version,
        "PEERUPGRADE_BEFORE": context.before,
    }
    command: str = getattr(extra, setting)
    return await run_step(setting, command, timeout_s=extra.step_timeout_s, variables=variables)
