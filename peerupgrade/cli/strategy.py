"""How a rollout goes on: as options, as a TOML file, and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from peerupgrade.cli.client import Json
from peerupgrade.cli.described import descriptions
from peerupgrade.cli.show import span
from peerupgrade.cli.sources import read_toml
from peerupgrade.core.strategy import ASKED, COUNT_MAX, Strategy, changes_of, field_of
from peerupgrade.errors import ConfigError

_WINDOWS = tuple[str, ...]
_ON_UNHEALTHY = {
    "pause": "a pause if one becomes unhealthy that has it",
    "node": "who becomes unhealthy that has it returns to what it had",
    "all": "all return to what they had if one becomes unhealthy that has it",
}


def _option(name: str) -> tuple[str, Any, Any]:
    """One field as an option that knows whether it was given."""
    kind, text = ASKED[name], descriptions(Strategy)[field_of(name)]
    if kind == _WINDOWS:
        option = Parameter(help=f"{text} May be repeated.", negative="", show_default=False)
        return _name(name), Annotated[kind, option], field(default=())
    if kind is float:
        kind, text = timedelta, f"{text} For example 30s or 10m."
    counts = Number(gte=0, lte=COUNT_MAX) if kind is int else ()
    option = Parameter(help=text, validator=counts, show_default=False)
    return _name(name), Annotated[kind | None, option], field(default=None)


def _name(name: str) -> str:
    """`soak_s` is --soak, and one of `windows` is --window."""
    if ASKED[name] is float:
        return name.removesuffix("_s")
    return name.removesuffix("s") if ASKED[name] == _WINDOWS else name


Flags = make_dataclass("Flags", [_option(name) for name in ASKED], frozen=True)
Flags.__module__ = __name__  # where the command line looks its types up
NO_FLAGS: Any = Flags()


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Chosen:
    """How the rollout goes on.

    Attributes:
        strategy: TOML file with what these options say, times in seconds: soak_s = 600, windows =
            ["sat 00:00-24:00"]. Options come before it.
    """

    strategy: Annotated[Path | None, Parameter(show_default=False)] = None
    flags: Annotated[Flags, Parameter(name="*")] = NO_FLAGS  # type: ignore[valid-type]

    def given(self) -> Json:
        """What was given, as the node takes it.

        Raises:
            ConfigError: the file cannot be used.
        """
        found = {} if self.strategy is None else _from_file(self.strategy)
        for name in ASKED:
            value = getattr(self.flags, _name(name))
            if isinstance(value, timedelta):
                found[name] = value.total_seconds()
            elif value not in (None, ()):
                found[name] = value
        return found


AS_IT_IS = Chosen()


def _from_file(path: Path) -> Json:
    found = read_toml(path, ASKED)
    try:
        changes_of(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.args[0]}", hint=error.hint) from None
    return found


def strategy_words(strategy: Json, failed: int = 0) -> str:
    """A strategy in words; `failed`: so many members have failed."""
    return ", ".join(_words(strategy, failed))


def _words(strategy: Json, failed: int) -> Iterator[str]:
    where = " of one zone" if strategy["one_zone"] else ""
    share = strategy["budget_percent"]
    yield f"{f'{share} %' if share else strategy['budget']}{where} may be down at once"
    if strategy["canary"]:
        yield f"a pause once {strategy['canary']} have it"
    if strategy["soak_s"]:
        yield f"{span(strategy['soak_s'])} from one to the next"
    if strategy["bake_s"]:
        yield f"{span(strategy['bake_s'])} from the last one to the raise"
    if strategy["windows"]:
        yield f"only within {', '.join(strategy['windows'])} (UTC)"
    if strategy["failures"]:
        yield f"{failed} of {strategy['failures']} nodes that may fail have failed"
    yield _ON_UNHEALTHY[strategy["on_unhealthy"]]
