"""Programs that the settings of a node name, run without a shell."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress

from peerupgrade.errors import ConfigError


async def run_program(
    setting: str, command: str, *, timeout_s: float, variables: Mapping[str, str] | None = None
) -> str:
    """Run a program to its end.

    Args:
        setting: that names it, for the messages.
        command: split as a shell would; nothing else of a shell.
        timeout_s: then it and its children are killed.
        variables: added to the environment.

    Returns:
        What it printed, without the white space around it.

    Raises:
        ConfigError: it cannot be run, failed, or took longer.
    """
    where = f"{setting} {command!r}"
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where} cannot be split", hint=str(error)) from error
    if not argv:
        raise ConfigError(f"{where} is empty", hint="give a program and its arguments")
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env={**os.environ, **(variables or {})},
        )
    except OSError as error:
        raise ConfigError(
            f"{where} cannot be run: {error.strerror}", hint="there is no shell: give a program"
        ) from error
    output, errors = await _finished(process, where, timeout_s)
    if process.returncode != 0:
        raise ConfigError(
            f"{where} failed with status {process.returncode}", hint=_last_line(errors)
        )
    return output.decode(errors="replace").strip()


async def _finished(process: Process, where: str, timeout_s: float) -> tuple[bytes, bytes]:
    try:
        return await asyncio.wait_for(process.communicate(), timeout_s)
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):  # its children, too, which may hold the pipes
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise ConfigError(
            f"{where} did not end within {timeout_s:g} s", hint="it was killed"
        ) from None


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing on stderr"
