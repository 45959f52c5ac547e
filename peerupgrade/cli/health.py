"""The probes of a program that runs beside its node."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from peerupgrade.cli.programs import run_program
from peerupgrade.cli.sources import Extra
from peerupgrade.core.health import Probing
from peerupgrade.errors import ConfigError, UnavailableError
from peerupgrade.settings import split_address

if TYPE_CHECKING:
    from peerupgrade.runtime.health import Check

_WELL = range(200, 400)


def health_checks(extra: Extra) -> list[Check]:
    """What is asked; empty: nothing is.

    Raises:
        ConfigError: a URL or an address cannot be used.
    """
    checks: list[Check] = []
    if extra.health_url:
        if not extra.health_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"health_url {extra.health_url!r} cannot be used", hint="give http://HOST:PORT/PATH"
            )
        checks.append(partial(_answers, extra.health_url))
    if extra.health_address:
        checks.append(partial(_listens, *split_address(extra.health_address)))
    if extra.health_command:
        checks.append(partial(_succeeds, extra.health_command, extra.health_timeout_s))
    return checks


def probing(extra: Extra) -> Probing:
    """When they are asked, and what follows.

    Raises:
        ConfigError: a number cannot be used.
    """
    for name in ("interval_s", "timeout_s"):
        if getattr(extra, f"health_{name}") <= 0:
            raise ConfigError(f"health_{name} is not above 0", hint="give a number of seconds")
    for name in ("failures", "successes"):
        if getattr(extra, f"health_{name}") < 1:
            raise ConfigError(f"health_{name} is below 1", hint="give 1 or more")
    return Probing(
        interval_s=extra.health_interval_s,
        timeout_s=extra.health_timeout_s,
        failures=extra.health_failures,
        successes=extra.health_successes,
        wait_s=extra.step_timeout_s,
    )


async def _answers(url: str) -> None:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as it,
        ):
            status = it.status
    except aiohttp.ClientError as error:
        raise UnavailableError(f"{url} does not answer", hint=str(error)) from error
    if status not in _WELL:
        raise UnavailableError(f"{url} answers {status}")


async def _listens(host: str, port: int) -> None:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise UnavailableError(f"{host}:{port} does not listen", hint=str(error)) from error
    writer.close()


async def _succeeds(command: str, timeout_s: float) -> None:
    await run_program("health_command", command, timeout_s=timeout_s)
