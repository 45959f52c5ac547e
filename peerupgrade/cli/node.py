"""A node beside a program in any language: `node`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from cyclopts import Parameter

from peerupgrade.cli.described import descriptions
from peerupgrade.cli.health import health_checks, probing
from peerupgrade.cli.installed import read_version
from peerupgrade.cli.programs import run_program
from peerupgrade.cli.ready import Made, make_ready, ready_installed, ready_steps
from peerupgrade.cli.show import print_message
from peerupgrade.cli.sources import Extra, Resolved, has_password, pairs, resolve, types
from peerupgrade.cli.turns import turn_commands
from peerupgrade.settings import Settings

if TYPE_CHECKING:
    from peerupgrade.runtime.hooks import OnActing
    from peerupgrade.runtime.supervised import Supervised
    from peerupgrade.runtime.turns import ReadInstalled

_ON_ACTING_TIMEOUT_S = 60.0
# Options are visible to every user of the machine.
_NEVER_A_FLAG = ("token",)


def _flag(setting: Field[Any], kind: Any, description: str) -> tuple[str, Any, Any]:
    """One setting as an option that knows whether it was given."""
    default = setting.default
    if default not in (MISSING, "", ()):
        description += f" [default: {default}]"
    elif get_origin(kind) is Mapping:
        kind, description = tuple[str, ...], f"KEY=VALUE, {description}"
    option = Parameter(help=description, negative="", show_default=False)
    return setting.name, Annotated[kind | None, option], field(default=None)


def _make_flags() -> type:
    kinds = types()
    texts = descriptions(Settings) | descriptions(Extra)
    flags = make_dataclass(
        "Flags",
        [
            _flag(setting, kinds[setting.name], texts.get(setting.name, ""))
            for setting in (*fields(Settings), *fields(Extra))
            if setting.name not in _NEVER_A_FLAG
        ],
        kw_only=True,
        frozen=True,
    )
    flags.__module__ = __name__  # where the command line looks its types up
    return flags


Flags = _make_flags()
_NO_FLAGS: Any = Flags()


def node(
    *,
    config: Annotated[
        str | None,
        Parameter(help="TOML file; by default PEERUPGRADE_CONFIG, or ./peerupgrade.toml if there."),
    ] = None,
    flags: Annotated[Flags, Parameter(name="*")] = _NO_FLAGS,  # type: ignore[valid-type]
) -> int:
    """Run a node beside a program written in any language, until it is told to end.

    Every setting may also stand in the environment, as PEERUPGRADE_ and its name
    in capitals, or in a TOML file, under its name with underscores. Flags come
    before the environment, the environment before the file. Lists in the
    environment are separated by spaces. Secrets belong there or in files, because
    options are visible to every user of the machine.

    The installed version is given as --installed, or read at the start and at each
    SIGHUP by --installed-command or --installed-package, or by --steps that can.

    For example:

        peerupgrade node --name n1 --installed 1.0
        peerupgrade node --name n1 --installed-command "cat /opt/myapp/VERSION"
        peerupgrade node --name n1 --steps pip.package=myapp --steps pip.venv=/opt/myapp \
            --run "/opt/myapp/bin/myapp --port 8000"
        peerupgrade node --config node.toml --store-file /run/secrets/store
    """
    from peerupgrade.runtime.agent import run_agent

    given = _given(flags)
    for name in ("store", "lock_servers"):
        urls = given.get(name, ())
        if any(has_password(url) for url in ((urls,) if isinstance(urls, str) else urls)):
            print_message(
                f"the password in --{name.replace('_', '-')} is visible to every user of this"
                f" machine: give it as PEERUPGRADE_{name.upper()} instead"
            )

    async def read_installed() -> tuple[str, str]:
        now = resolve(given, config)
        return await _installed(now, made), now.settings.get("lowest_supported", _lowest_default())

    resolved = resolve(given, config)
    extra = resolved.extra
    made = make_ready(extra.steps)
    settings = resolved.settings_with(asyncio.run(_installed(resolved, made)))
    on_acting = _on_acting(extra.on_acting_command)
    health = (health_checks(extra), probing(extra))
    steps = ready_steps(made, turn_commands(extra), extra.step_timeout_s)
    program = _program(extra, settings, read_installed)
    if program is not None:
        steps, read_installed = program.turn_steps(steps), program.read_installed
    return run_agent(settings, read_installed, on_acting, steps, health, program)


def _program(extra: Extra, settings: Settings, read_installed: ReadInstalled) -> Supervised | None:
    """What the agent runs; None: nothing."""
    if not extra.run:
        return None
    from peerupgrade.runtime.supervised import Supervised
    from peerupgrade.runtime.world import state_directory

    acting_file = state_directory(settings) / "acting"
    limits_s = (extra.run_stop_s, extra.step_timeout_s)
    return Supervised(extra.run, *limits_s, acting_file, read_installed)


def _on_acting(command: str) -> OnActing | None:
    """The callback that runs the command; None without one."""
    if not command:
        return None

    async def run(version: str, previous: str | None) -> None:
        variables = {"PEERUPGRADE_ACTING": version, "PEERUPGRADE_PREVIOUS": previous or ""}
        await run_program(
            "on_acting_command", command, timeout_s=_ON_ACTING_TIMEOUT_S, variables=variables
        )

    return run


async def _installed(resolved: Resolved, made: Made) -> str:
    named = resolved.settings.get("installed", "")
    return await read_version(resolved.extra, named, ready_installed(made))


def _lowest_default() -> str:
    default = Settings.__dataclass_fields__["lowest_supported"].default
    assert isinstance(default, str)
    return default


def _given(flags: Any) -> dict[str, Any]:
    """What the command line names."""
    given = {
        one.name: getattr(flags, one.name)
        for one in fields(flags)
        if getattr(flags, one.name) is not None
    }
    if "labels" in given:
        given["labels"] = pairs(given["labels"], "--labels")
    return given
