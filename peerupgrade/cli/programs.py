"""Programs that the settings of a node name, run without a shell."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TypeVar

from peerupgrade.adapters.embedded import die_with_parent
from peerupgrade.errors import ConfigError

_T = TypeVar("_T")

_OUTPUT_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended. `output`: the end of what it said, on stdout and stderr."""

    status: int
    output: str


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
    process = await _started(where, command, PIPE, PIPE, variables)
    output, errors = await _within(process.communicate, process, where, timeout_s)
    if process.returncode != 0:
        raise ConfigError(
            f"{where} failed with status {process.returncode}", hint=_last_line(errors)
        )
    return output.decode(errors="replace").strip()


async def run_step(
    setting: str, command: str, *, timeout_s: float, variables: Mapping[str, str]
) -> Ran:
    """Run a program that changes something; it ends when this process does.

    What it leaves running may keep its output open. Arguments: as for `run_program`.

    Raises:
        ConfigError: it cannot be run, or took longer.
    """
    where = f"{setting} {command!r}"
    with tempfile.TemporaryFile() as output:
        ends = die_with_parent(os.getpid())
        process = await _started(where, command, output, STDOUT, variables, ends)
        status = await _within(process.wait, process, where, timeout_s)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _OUTPUT_BYTES_MAX))
        return Ran(status, output.read().decode(errors="replace").strip())


async def _started(
    where: str,
    command: str,
    stdout: int | IO[bytes],
    stderr: int,
    variables: Mapping[str, str] | None,
    before: Callable[[], None] | None = None,
) -> Process:
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where} cannot be split", hint=str(error)) from error
    if not argv:
        raise ConfigError(f"{where} is empty", hint="give a program and its arguments")
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=before,
            env={**os.environ, **(variables or {})},
        )
    except OSError as error:
        raise ConfigError(
            f"{where} cannot be run: {error.strerror}", hint="there is no shell: give a program"
        ) from error


async def _within(
    ending: Callable[[], Awaitable[_T]], process: Process, where: str, timeout_s: float
) -> _T:
    try:
        return await asyncio.wait_for(ending(), timeout_s)
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
