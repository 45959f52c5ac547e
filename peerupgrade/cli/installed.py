"""Which version of the software is installed beside the agent."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress

from peerupgrade.cli.sources import Extra
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError

_COMMAND_TIMEOUT_S = 10.0


async def read_version(extra: Extra, installed: str) -> str:
    """The installed version, from wherever it is to be read; read anew at each call.

    Args:
        extra: names a command or a package, or neither.
        installed: the version as given; "" if it was not.

    Raises:
        ConfigError: it cannot be found out.
    """
    if extra.installed_command:
        text = await _printed(extra.installed_command)
    elif extra.installed_package:
        text = _of_package(extra.installed_package)
    elif installed:
        text = installed
    else:
        raise ConfigError(
            "the installed version is not known",
            hint="give --installed VERSION, --installed-command CMD or --installed-package NAME",
        )
    return str(parse_version(text))


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
    """What the command prints, without the white space around it."""
    where = f"installed_command {command!r}"
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where} cannot be split", hint=str(error)) from error
    if not argv:
        raise ConfigError(f"{where} is empty", hint="give a program and its arguments")
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except OSError as error:
        raise ConfigError(
            f"{where} cannot be run: {error.strerror}", hint="there is no shell: give a program"
        ) from error
    output, errors = await _finished(process, where)
    if process.returncode != 0:
        raise ConfigError(
            f"{where} failed with status {process.returncode}", hint=_last_line(errors)
        )
    text = output.decode(errors="replace").strip()
    if not text or len(text.splitlines()) > 1:
        raise ConfigError(
            f"{where} printed {text[:60]!r}", hint="it must print the version and nothing else"
        )
    return text


async def _finished(process: Process, where: str) -> tuple[bytes, bytes]:
    try:
        return await asyncio.wait_for(process.communicate(), _COMMAND_TIMEOUT_S)
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):  # its children, too, which may hold the pipes
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise ConfigError(
            f"{where} did not end within {_COMMAND_TIMEOUT_S:g} s", hint="it was killed"
        ) from None


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing on stderr"
