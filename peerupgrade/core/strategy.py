"""How a rollout goes on: how many at once, when, and what becomes of failures.

Each field stands here once, and so does its description. The options of the commands, what their
TOML file may name and what the HTTP interface takes are made from it: see `ASKED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias, get_type_hints

from peerupgrade.core.windows import check_window
from peerupgrade.errors import ConfigError

COUNT_MAX = 1000
_LASTS_S_MAX = 30 * 86400
_WINDOWS_MAX = 50


class OnUnhealthy(StrEnum):
    """What a rollout does about a member that is worse for the new version."""

    PAUSE = "pause"
    NODE = "node"  # that member returns to what it had, and is left out
    ALL = "all"  # every member that got the version returns to what it had


@dataclass(frozen=True, slots=True)
class Strategy:
    """It is part of the cluster record, in its rollout.

    Attributes:
        budget: so many may be down at once, or a part of them such as 25%, but one at least; 1
            unless given.
        budget_percent: that part; 0: `budget` counts.
        canary: pause once so many have it; 0: never, or it has done so.
        soak_ms: so long must those that have it operate before the next one is taken down.
        one_zone: one zone after the other: never take nodes of two zones down at once.
        windows: begin with nodes only then (UTC), for example "mon-fri 22:00-05:00"; always
            unless given.
        failures: so many nodes may fail before it pauses; each is left out. 0 unless given.
        bake_ms: so long must all operate with it before the acting version may rise.
        on_unhealthy: what follows if a node becomes unhealthy that has got the version: pause, or
            that node or all of them return to what they had; pause unless given.
    """

    budget: int = 1
    budget_percent: int = 0
    canary: int = 0
    soak_ms: int = 0
    one_zone: bool = False
    windows: tuple[str, ...] = ()
    failures: int = 0
    bake_ms: int = 0
    on_unhealthy: OnUnhealthy = OnUnhealthy.PAUSE

    def budget_of(self, members: int) -> int:
        """How many of so many members may be down at once."""
        if not self.budget_percent:
            return self.budget
        return max(1, members * self.budget_percent // 100)


CAREFUL = Strategy()  # one after the other, and a pause at the first failure
Changes: TypeAlias = Mapping[str, Any]  # names of fields of `Strategy` -> their values


# --- what programs and people ask for -------------------------------------------------------------


def _asked() -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(Strategy).items():
        if name.endswith("_ms"):
            found[name.removesuffix("_ms") + "_s"] = float
        elif name != "budget_percent":
            found[name] = str if name == "budget" else kind
    return found


ASKED = _asked()  # a field as others name it, times in seconds and a budget as text -> its type


def field_of(name: str) -> str:
    """The field of `Strategy` that others call by this name, one of `ASKED`."""
    return name.removesuffix("_s") + "_ms" if ASKED[name] is float else name


def changes_of(given: Mapping[str, Any]) -> Changes:
    """What others ask for, as fields of a strategy.

    Args:
        given: names of `ASKED`, and values as JSON and TOML have them.

    Raises:
        ConfigError: a name is unknown, or a value cannot be used.
    """
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name not in ASKED:
            raise ConfigError(f"a strategy has no {name!r}", hint=f"there are {', '.join(ASKED)}")
        if name == "budget":
            changes |= _budget(str(value))
        else:
            changes[field_of(name)] = _READ[ASKED[name]](name, value)
    return changes


def shown(strategy: Strategy) -> dict[str, Any]:
    """The same the other way round; `budget_percent` stands beside `budget`."""
    found = {}
    for name, value in asdict(strategy).items():
        if name.endswith("_ms"):
            found[name.removesuffix("_ms") + "_s"] = value / 1000
        else:
            found[name] = value
    return found


def _budget(text: str) -> Changes:
    number = int(text.removesuffix("%")) if text.removesuffix("%").isdecimal() else 0
    share = text.endswith("%")
    if not 1 <= number <= (100 if share else COUNT_MAX):
        raise ConfigError(
            f"the budget {text!r} cannot be used",
            hint=f"give a number of nodes from 1 to {COUNT_MAX}, or a part of them, 1% to 100%",
        )
    return {"budget_percent": number} if share else {"budget": number, "budget_percent": 0}


def _count(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX:
        return value
    raise _unusable(name, value, f"a number of nodes from 0 to {COUNT_MAX}")


def _ms(name: str, value: object) -> int:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if 0 <= number <= _LASTS_S_MAX:  # nan is not between them
        return round(number * 1000)
    raise _unusable(name, value, f"a number of seconds from 0 to {_LASTS_S_MAX}")


def _either(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _unusable(name, value, "true or false")


def _windows(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and len(value) <= _WINDOWS_MAX:
        return tuple(check_window(str(one)) for one in value)
    raise _unusable(name, value, f"a list of at most {_WINDOWS_MAX} windows")


def _on_unhealthy(name: str, value: object) -> OnUnhealthy:
    for one in OnUnhealthy:
        if one == value:
            return one
    raise _unusable(name, value, " or ".join(OnUnhealthy))


def _unusable(name: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r:.100}", hint=f"give {wanted}")


_READ: Mapping[Any, Callable[[str, Any], object]] = {
    int: _count,
    float: _ms,
    bool: _either,
    tuple[str, ...]: _windows,
    OnUnhealthy: _on_unhealthy,
}
