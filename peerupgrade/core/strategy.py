"""How a rollout goes on: how many at once, when, and what becomes of failures.

Each field stands here once; whoever asks for a change gives the names of fields and their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from peerupgrade.core.windows import check_window
from peerupgrade.errors import ConfigError

_MEMBERS_MAX = 1000


class OnUnhealthy(StrEnum):
    """What a rollout does about a member that is worse for the new version."""

    PAUSE = "pause"
    NODE = "node"  # that member returns to what it had, and is left out
    ALL = "all"  # every member that got the version returns to what it had


@dataclass(frozen=True, slots=True)
class Strategy:
    """It is part of the cluster record, in its rollout.

    Attributes:
        budget: at most so many members are down at once.
        budget_percent: or this part of the members, but one at least; 0: `budget` counts.
        canary: it pauses once so many members have the version; 0: it does not, or has done so.
        soak_ms: so long must those that have it operate before another one is taken down.
        one_zone: all that are down are of one zone.
        windows: times of the week; outside of all of them no turn begins. Empty: always.
        failures: so many members may fail before it pauses; each is left out.
        bake_ms: so long must all that have it operate before the acting version may rise.
        on_unhealthy: what follows if a member becomes unhealthy that got the version in it.
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


def changes_of(given: Mapping[str, Any]) -> Changes:
    """What programs ask for, as fields: times are in seconds there, a budget may be `25%`.

    Raises:
        ConfigError: a budget or a window cannot be read.
    """
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name == "budget":
            changes |= _budget(str(value))
        elif name == "windows":
            changes[name] = tuple(map(check_window, value))
        elif name.endswith("_s"):
            changes[name.removesuffix("_s") + "_ms"] = round(value * 1000)
        else:
            changes[name] = value
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
    if not 1 <= number <= (100 if share else _MEMBERS_MAX):
        raise ConfigError(
            f"the budget {text!r} cannot be used",
            hint=f"give a number of nodes from 1 to {_MEMBERS_MAX}, or a part of them, 1% to 100%",
        )
    return {"budget_percent": number} if share else {"budget": number, "budget_percent": 0}
