"""Installs a package into a virtual environment, and reads its version there.

While pip works, a file in the environment has the version that was there before. One that is found
later says that pip was cut short: by its own end, by a time limit, or with the agent. What is there
then is not to be trusted, so the version before is put back before anybody is told that it is what
is installed. Where that fails it counts as installed all the same: no version may be named that is
there in part only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from importlib import invalidate_caches
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from peerupgrade.cli.programs import run_step
from peerupgrade.cli.ready import check_options
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError

if TYPE_CHECKING:
    from peerupgrade.runtime.turns import TurnContext

log = logging.getLogger("peerupgrade")

_UNFINISHED = ".peerupgrade-installs"
_PUT_BACK_S = 600.0  # pip gives up on an index that does not answer long before


class Pip:
    """The steps.

    Args:
        options: `package`, its name; `venv`, the directory of the environment.

    Raises:
        ConfigError: another option, or a missing one.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        check_options("pip", options, ("package", "venv"))
        self._package = options["package"]
        self._venv = Path(options["venv"]).absolute()
        self._unfinished = self._venv / _UNFINISHED
        self._working = asyncio.Lock()  # one pip at a time
        self._puts_back = True  # once: what cannot be put back is not tried at each question

    async def installed(self) -> str:
        """The version that is there; what was cut short is taken back first.

        Raises:
            ConfigError: there is none.
        """
        await self._put_back()
        if self._unfinished.exists():
            return self._unfinished.read_text(encoding="utf-8")
        version = self._version()
        if version is None:
            raise ConfigError(
                f"package {self._package!r} is not installed in {self._venv}",
                hint=f"begin with: python3 -m venv {self._venv} && {self._venv}/bin/pip install"
                f" {self._package}==VERSION",
            )
        return version

    async def install(self, context: TurnContext) -> str:
        """Install the version of the turn, from where pip is set up to look.

        Raises:
            ConfigError: pip cannot be run, or failed.
        """
        try:
            async with self._working:
                anew, self._puts_back = self._unfinished.exists(), True
                _write(self._unfinished, context.before)
                await self._run(context.version, anew=anew, timeout_s=None)
                self._unfinished.unlink()
        except _PipFailedError as error:
            # Whoever ends by itself has put back what it had taken away.
            if error.status > 0 and self._is(context.before) and not anew:
                self._unfinished.unlink()
            await self._put_back()
            raise
        return f"{self._package}=={context.version} in {self._venv}"

    async def look(self, context: TurnContext) -> bool:
        """Whether the version of the turn was installed to the end; if not, it is taken back."""
        await self._put_back()
        return not self._unfinished.exists() and self._is(context.version)

    async def _put_back(self) -> None:
        """What was before, if pip was cut short and does not work at this moment."""
        if not self._unfinished.exists() or not self._puts_back or self._working.locked():
            return
        async with self._working:
            before, self._puts_back = self._unfinished.read_text(encoding="utf-8"), False
            log.warning("pip was cut short in %s: %s is put back", self._venv, before)
            try:
                await self._run(before, anew=True, timeout_s=_PUT_BACK_S)
            except ConfigError as error:
                log.warning("%s", error)
            else:
                self._unfinished.unlink()

    async def _run(self, version: str, *, anew: bool, timeout_s: float | None) -> None:
        """Let pip install a version; `anew`: every file, over whatever is there."""
        if anew:
            for half in self._half_done():
                shutil.rmtree(half)
        wanted = f"{self._package}=={version}"
        argv = [str(self._venv / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        argv += ["--disable-pip-version-check", *(("--force-reinstall",) if anew else ()), wanted]
        ran = await run_step("pip", shlex.join(argv), timeout_s=timeout_s, variables={})
        if ran.status != 0:
            said = ran.output.splitlines()
            raise _PipFailedError(
                f"pip install {wanted} failed with status {ran.status} in {self._venv}",
                hint=(said[-1] if said else "it said nothing")
                + "; what was before is put back, and if that fails it counts as installed all the"
                f" same: who mends the environment by hand then removes {self._unfinished}",
                status=ran.status,
            )

    def _half_done(self) -> Iterator[Path]:
        """What pip knows of distributions that it did not install to the end.

        It writes RECORD last, and refuses to replace a distribution that has none.
        """
        for known in self._venv.glob("lib/python3*/site-packages/*.dist-info"):
            installer = known / "INSTALLER"
            by_pip = not installer.exists() or installer.read_text("utf-8").strip() == "pip"
            if by_pip and not (known / "RECORD").exists():
                yield known

    def _is(self, version: str) -> bool:
        there = self._version()
        return there is not None and parse_version(there) == parse_version(version)

    def _version(self) -> str | None:
        invalidate_caches()  # it may have been installed a moment ago
        paths = [str(path) for path in self._venv.glob("lib/python3*/site-packages")]
        return next((one.version for one in distributions(name=self._package, path=paths)), None)


class _PipFailedError(ConfigError):
    """`status`: its exit status, below 0 the signal that ended it."""

    def __init__(self, message: str, *, hint: str, status: int) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def _write(path: Path, text: str) -> None:
    """All of it or nothing, and durably: the power may fail while pip works."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
