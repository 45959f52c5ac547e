"""Ready-made steps of a turn: found by their name among the entry points `peerupgrade.steps`.

An entry point is a factory: it is given the options as the settings name them, a mapping of texts,
and gives an object with some of the methods of `ReadyMade`. Whatever it cannot use it refuses with
a `ConfigError`. Those that come with peerupgrade are found in the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeAlias

from peerupgrade.errors import ConfigError

if TYPE_CHECKING:
    from peerupgrade.runtime.turns import LookAtStep, RunStep

GROUP = "peerupgrade.steps"
STEPS = ("drain", "install", "restart", "verify", "undrain")

Made: TypeAlias = Mapping[str, Any]  # name -> what its factory gave
TurnSteps: TypeAlias = "dict[str, tuple[RunStep, LookAtStep | None]]"


def make_ready(words: Sequence[str]) -> Made:
    """What the setting `steps` names.

    Args:
        words: `NAME` or `NAME.OPTION=VALUE`.

    Raises:
        ConfigError: there is no such name, or its options cannot be used.
    """
    options: dict[str, dict[str, str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name, dot, option = key.partition(".")
        if not name or bool(dot) != bool(equals) or bool(dot) != bool(option):
            raise ConfigError(f"steps has {word!r}", hint="give NAME or NAME.OPTION=VALUE")
        of_name = options.setdefault(name, {})
        if option:
            of_name[option] = value
    return {name: _make(name, given) for name, given in options.items()}


def _make(name: str, options: Mapping[str, str]) -> object:
    found: dict[str, EntryPoint] = {one.name: one for one in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(
            f"there are no ready-made steps {name!r}",
            hint=f"there are {', '.join(sorted(found)) or 'none: install peerupgrade anew'}",
        )
    try:
        factory: Callable[[Mapping[str, str]], object] = found[name].load()
    except (ImportError, AttributeError) as error:
        where = found[name].value
        raise ConfigError(f"steps {name!r} cannot be loaded from {where}: {error}") from error
    return factory(options)


def check_options(
    name: str, options: Mapping[str, str], needed: Sequence[str], others: Sequence[str] = ()
) -> None:
    """Refuse what a factory does not know, and what it misses.

    Raises:
        ConfigError: says which.
    """
    for option in options:
        if option not in (*needed, *others):
            known = ", ".join((*needed, *others))
            raise ConfigError(
                f"steps {name!r} have no option {option!r}", hint=f"there are {known}"
            )
    for option in needed:
        if not options.get(option):
            raise ConfigError(f"steps {name!r} need {option!r}", hint=f"give {name}.{option}=VALUE")


def ready_steps(made: Made, commands: TurnSteps, timeout_s: float) -> TurnSteps:
    """The steps that are ready made, with the commands before them.

    Args:
        made: by `make_ready`.
        commands: for steps that the settings name themselves.
        timeout_s: how long a ready-made step may take.

    Raises:
        ConfigError: two give the same step.
    """
    from peerupgrade.runtime.turns import limited

    found: TurnSteps = {}
    for step in STEPS:
        name = _giver(made, step, f"{step}_command")
        if step in commands:
            found[step] = commands[step]
        elif name is not None:
            run = limited(getattr(made[name], step), f"{step} of steps {name!r}", timeout_s)
            found[step] = (run, getattr(made[name], "look", None))
    return found


def ready_installed(made: Made) -> Callable[[], Awaitable[str] | str] | None:
    """What reads the installed version; None: none of them does.

    Raises:
        ConfigError: two do.
    """
    name = _giver(made, "installed", "installed_command")
    return None if name is None else getattr(made[name], "installed")  # noqa: B009


def _giver(made: Made, method: str, setting: str) -> str | None:
    names = [name for name, one in made.items() if getattr(one, method, None) is not None]
    if len(names) > 1:
        raise ConfigError(
            f"steps {' and '.join(names)} both have {method!r}",
            hint=f"give one of them, and {setting} for what the other one did",
        )
    return names[0] if names else None
