"""Programs that the settings of a node name, run without a shell."""

from __future__ import annotations

import asyncio
import os
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from peerupgrade.adapters.embedded import die_with_parent
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.programs import kill_session, split_command, start_program

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
    argv = split_command(where, command)
    process = await start_program(where, argv, stdout=PIPE, stderr=PIPE, variables=variables)
    output, errors = await _within(process.communicate, process, where, timeout_s)
    if process.returncode != 0:
        raise ConfigError(
            f"{where} failed with status {process.returncode}", hint=_last_line(errors)
        )
    return output.decode(errors="replace").strip()


async def run_step(
    setting: str, command: str, *, timeout_s: float | None, variables: Mapping[str, str]
) -> Ran:
    """Run a program that changes something; it ends when this process does.

    What it leaves running may keep its output open. Arguments: as for `run_program`;
    without `timeout_s` whoever waits for it ends it.

    Raises:
        ConfigError: it cannot be run, or took longer.
    """
    where = f"{setting} {command!r}"
    argv = split_command(where, command)
    with tempfile.TemporaryFile() as output:
        process = await start_program(
            where,
            argv,
            stdout=output,
            stderr=STDOUT,
            variables=variables,
            before=die_with_parent(os.getpid()),
        )
        status = await _within(process.wait, process, where, timeout_s)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _OUTPUT_BYTES_MAX))
        return Ran(status, output.read().decode(errors="replace").strip())


async def _within(
    ending: Callable[[], Awaitable[_T]], process: Process, where: str, timeout_s: float | None
) -> _T:
    try:
        return await asyncio.wait_for(ending(), timeout_s)
    except (TimeoutError, asyncio.CancelledError) as error:
        kill_session(process)  # its children, too, which may hold the pipes
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise ConfigError(
            f"{where} did not end within {timeout_s:g} s", hint="it was killed"
        ) from None


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing on stderr"
