"""Installs a package into a virtual environment, and reads its version there.

While pip works, a file in the environment has the version that was there before. One that is found
later says that the end of the agent cut pip short: what is there then is not to be trusted, so the
version is still the one before, and pip replaces every file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
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

_UNFINISHED = ".peerupgrade-installs"


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

    def installed(self) -> str:
        """The version that is there.

        Raises:
            ConfigError: there is none.
        """
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
        anew = ("--force-reinstall",) if self._unfinished.exists() else ()
        _write(self._unfinished, context.before)
        wanted = f"{self._package}=={context.version}"
        argv = [str(self._venv / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        argv += ["--disable-pip-version-check", *anew, wanted]
        ran = await run_step("pip", shlex.join(argv), timeout_s=None, variables={})
        if ran.status != 0:
            if self._is(context.before) and not anew:  # pip has put it back
                self._unfinished.unlink()
            said = ran.output.splitlines()
            raise ConfigError(
                f"pip install {wanted} failed with status {ran.status} in {self._venv}",
                hint=(said[-1] if said else "it said nothing")
                + f"; until pip gets through, what was before counts as installed: who mends the"
                f" environment by hand removes {self._unfinished}",
            )
        self._unfinished.unlink()
        return f"{wanted} in {self._venv}"

    def look(self, context: TurnContext) -> bool:
        """Whether the version of the turn was installed to the end."""
        return not self._unfinished.exists() and self._is(context.version)

    def _is(self, version: str) -> bool:
        there = self._version()
        return there is not None and parse_version(there) == parse_version(version)

    def _version(self) -> str | None:
        invalidate_caches()  # it may have been installed a moment ago
        paths = [str(path) for path in self._venv.glob("lib/python3*/site-packages")]
        return next((one.version for one in distributions(name=self._package, path=paths)), None)


def _write(path: Path, text: str) -> None:
    """All of it or nothing, and durably: the power may fail while pip works."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
