"""Where the settings of a node come from: flags over environment over a TOML file over defaults.

Their names, types and defaults stand in one place, the dataclass `Settings`; `Extra` adds what only
the command line needs. A source that names one of several alternatives, for example
`installed_command`, puts aside all of them in the sources below it.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import msgspec

from peerupgrade.errors import ConfigError
from peerupgrade.settings import Settings

DEFAULT_FILE = "peerupgrade.toml"
_ALTERNATIVES = (
    ("installed", "installed_command", "installed_package"),
    ("store", "store_file"),
    ("token", "token_file"),
)
_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What only the command needs.

    Attributes:
        installed_command: prints the installed version; run at the start and at SIGHUP, without a
            shell.
        installed_package: Python package whose version is the installed version; read at the
            start and at SIGHUP.
        on_acting_command: run, without a shell, before the node operates at a version, with
            PEERUPGRADE_ACTING and PEERUPGRADE_PREVIOUS in its environment; it ends when the
            program beside the node behaves so, and the node confirms after it.
        drain_command, install_command, restart_command, verify_command, undrain_command: run,
            without a shell, in this node's turn of a rollout, with PEERUPGRADE_STEP,
            PEERUPGRADE_VERSION (to be installed) and PEERUPGRADE_BEFORE in the environment;
            without install_command a person installs, and says so by SIGHUP.
        step_timeout_s: how long each of these may take, and what stands in their place; then it is
            ended, and has failed.
        look_command: run with the same environment when the end of this process has cut a step
            short: exit status 0 says that it was done, 1 that it was not; else a person decides.
        health_url: answers with a status from 200 to 399 while the program is well.
        health_address: `host:port` that takes a connection by TCP while it is.
        health_command: run, without a shell; ends with exit status 0 while it is.
        health_interval_s: from one answer of these probes to the next question.
        health_timeout_s: how long an answer may take.
        health_failures, health_successes: so many one after the other make it unhealthy, and
            healthy again.
        steps: ready-made ones for those that have no command: `NAME` or `NAME.OPTION=VALUE`, in a
            TOML file a table `[steps.NAME]`; `pip` (`package`, `venv`) installs and reads the
            installed version, `systemd` (`unit`) restarts and verifies; packages bring others.
        run: program that the agent runs while the node operates, without a shell, restarts when it
            dies or a rollout says so, and stops before it ends itself. `{version}` in it is the
            installed version; PEERUPGRADE_ACTING (at its start), PEERUPGRADE_ACTING_FILE (kept up
            to date) and PEERUPGRADE_URL are in its environment.
        run_stop_s: how long that program may take to end after SIGTERM; then it is killed.
        store_file: file that has the URL of the store.
        token_file: file that has the token.
    """

    installed_command: str = ""
    installed_package: str = ""
    on_acting_command: str = ""
    drain_command: str = ""
    install_command: str = ""
    restart_command: str = ""
    verify_command: str = ""
    undrain_command: str = ""
    step_timeout_s: float = 600.0
    look_command: str = ""
    health_url: str = ""
    health_address: str = ""
    health_command: str = ""
    health_interval_s: float = 5.0
    health_timeout_s: float = 2.0
    health_failures: int = 3
    health_successes: int = 1
    steps: tuple[str, ...] = ()
    run: str = ""
    run_stop_s: float = 10.0
    store_file: str = ""
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every setting that some source has named, with the alternatives for `installed` apart."""

    settings: Mapping[str, Any]
    extra: Extra

    def settings_with(self, installed: str) -> Settings:
        """The settings of a node that has this version installed.

        Raises:
            ConfigError: one is missing or wrong.
        """
        if "name" not in self.settings:
            raise ConfigError(
                "the node has no name", hint="give --name, PEERUPGRADE_NAME or name in a TOML file"
            )
        return Settings(**{**self.settings, "installed": installed})


def types() -> dict[str, Any]:
    """Name -> type of everything that a source may name."""
    return get_type_hints(Settings) | get_type_hints(Extra)


def resolve(flags: Mapping[str, object], config: str | None) -> Resolved:
    """Read all sources, as they are now.

    Args:
        flags: what the command line names.
        config: the TOML file; None: `PEERUPGRADE_CONFIG`, or the default one if it is there.

    Raises:
        ConfigError: a source cannot be read, or names something unknown or of a wrong type.
    """
    chosen: dict[str, Any] = {}
    for layer in (_from_toml(config), _from_environment(), dict(flags)):
        for names in _ALTERNATIVES:
            _choose(chosen, layer, names)
        chosen |= layer
    for name in ("store", "token"):
        path = chosen.get(f"{name}_file")
        if path:
            chosen[name] = _secret(f"{name}_file", path)
    extra_names = {one.name for one in fields(Extra)}
    return Resolved(
        settings={name: value for name, value in chosen.items() if name not in extra_names},
        extra=Extra(**{name: value for name, value in chosen.items() if name in extra_names}),
    )


def read_toml(path: Path, known: Collection[str]) -> dict[str, Any]:
    """What a file says.

    Args:
        path: of it.
        known: the names that it may have.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has another name.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {path}: {reason}", hint="give a TOML file") from error
    for key in found:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ConfigError(f"{path} has the unknown key {key!r}", hint=hint)
    return found


def has_password(url: str) -> bool:
    """True if the URL carries a secret."""
    return _PASSWORD.search(url) is not None


def pairs(words: tuple[str, ...], where: str) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping.

    Raises:
        ConfigError: one has another form.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ConfigError(f"{where} is {word!r}", hint="give KEY=VALUE")
        found[key] = value
    return found


def _choose(chosen: dict[str, Any], layer: Mapping[str, object], names: tuple[str, ...]) -> None:
    named = [name for name in names if name in layer]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} exclude each other", hint="give one of them")
    if named:
        for name in names:
            chosen.pop(name, None)


def _from_toml(config: str | None) -> dict[str, Any]:
    asked = config or os.environ.get("PEERUPGRADE_CONFIG")
    path = Path(asked or DEFAULT_FILE)
    if asked is None and not path.exists():
        return {}
    known = types()
    found = read_toml(path, known)
    if isinstance(found.get("steps"), dict):
        found["steps"] = _words(found["steps"], f"steps in {path}")
    return {
        key: _convert(value, known[key], f"{key} in {path}", strict=True)
        for key, value in found.items()
    }


def _words(tables: Mapping[str, Any], where: str) -> list[str]:
    """Tables of options as the other sources write them."""
    words = []
    for name, options in tables.items():
        if not isinstance(options, dict):
            raise ConfigError(f"{where} has {name} = {options!r}", hint=f"give [steps.{name}]")
        words += [name, *(f"{name}.{option}={value}" for option, value in options.items())]
    return words


def _from_environment() -> dict[str, Any]:
    found = {}
    for name, kind in types().items():
        variable = f"PEERUPGRADE_{name.upper()}"
        text = os.environ.get(variable)
        if text is not None:
            value = _from_text(text, kind, variable)
            found[name] = _convert(value, kind, variable, strict=False)
    return found


def _from_text(text: str, kind: Any, where: str) -> object:
    """Lists are separated by spaces, because URLs may have commas."""
    if get_origin(kind) is tuple:
        return tuple(text.split())
    if get_origin(kind) is Mapping:
        return pairs(tuple(text.split()), where)
    return text


def _convert(value: object, kind: Any, where: str, *, strict: bool) -> Any:
    try:
        converted = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} is wrong", hint=str(error)) from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigError(f"{where} is {value}", hint="give a finite number")
    return converted


def _secret(name: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read {name} {path}: {reason}") from error
    if not text:
        raise ConfigError(f"{name} {path} is empty")
    return text
