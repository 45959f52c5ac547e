"""Programs as they are started: by their arguments, in a session of their own, without a shell."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from peerupgrade.errors import ConfigError


def split_command(where: str, command: str) -> list[str]:
    """The arguments, split as a shell would; nothing else of a shell.

    Args:
        where: the setting and its value, for the messages.
        command: that it is.

    Raises:
        ConfigError: it cannot be split, or is empty.
    """
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where} cannot be split", hint=str(error)) from error
    if not argv:
        raise ConfigError(f"{where} is empty", hint="give a program and its arguments")
    return argv


async def start_program(
    where: str,
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes] | None,
    variables: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Process:
    """Start a program in a session of its own, with nothing to read.

    Args:
        where: as for `split_command`.
        argv: the program and its arguments.
        stdout: where what it says goes.
        stderr: the same; None: where ours goes.
        variables: added to the environment.
        before: what runs in the child before the program does.

    Raises:
        ConfigError: it cannot be run.
    """
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


def kill_session(process: Process) -> None:
    """SIGKILL to a program and all that it has started, also once it has ended itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
