"""Which version of the software is installed beside the agent."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from peerupgrade.cli.programs import run_program
from peerupgrade.cli.sources import Extra
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError, PeerUpgradeError

ReadVersion: TypeAlias = Callable[[], Awaitable[str] | str]

_COMMAND_TIMEOUT_S = 10.0


async def read_version(extra: Extra, installed: str, otherwise: ReadVersion | None = None) -> str:
    """The installed version, from wherever it is to be read; read anew at each call.

    Args:
        extra: names a command or a package, or neither.
        installed: the version as given; "" if it was not.
        otherwise: reads it if none of them names it.

    Raises:
        ConfigError: it cannot be found out.
    """
    if extra.installed_command:
        text = await _printed(extra.installed_command)
    elif extra.installed_package:
        text = _of_package(extra.installed_package)
    elif installed:
        text = installed
    elif otherwise is not None:
        text = await _read_otherwise(otherwise)
    else:
        raise ConfigError(
            "the installed version is not known",
            hint="give --installed VERSION, --installed-command CMD, --installed-package NAME or"
            " --steps that can read it",
        )
    return str(parse_version(text))


async def _read_otherwise(otherwise: ReadVersion) -> str:
    """By the code of somebody else, which may raise anything."""
    try:
        found = otherwise()
        return await found if inspect.isawaitable(found) else found
    except PeerUpgradeError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the installed version cannot be read: {type(error).__name__}: {error}",
            hint="mend the ready-made steps that read it, or give --installed-command CMD",
        ) from error


def _of_package(name: str) -> str:
    from importlib import invalidate_caches
    from importlib.metadata import PackageNotFoundError, version

    invalidate_caches()  # it may have been installed a moment ago
    try:
        return version(name)
    except PackageNotFoundError:
        raise ConfigError(
            f"installed_package {name!r} is not installed",
            hint="install it into the environment that peerupgrade runs in",
        ) from None


async def _printed(command: str) -> str:
    text = await run_program("installed_command", command, timeout_s=_COMMAND_TIMEOUT_S)
    if not text or len(text.splitlines()) > 1:
        raise ConfigError(
            f"installed_command {command!r} printed {text[:60]!r}",
            hint="it must print the version and nothing else",
        )
    return text
