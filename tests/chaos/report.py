"""What a run amounts to, for people and for programs."""

from rich.console import Console
from rich.table import Table

from tests.chaos.plan import FAULTS
from tests.chaos.points import CRASH_POINTS

COUNTED = (
    "turns of rollouts",
    "raises",
    "operations",
    "values written",
    "values read",
    "notes written",
    "notes read",
    "acting version read",
)
# Few enough for a slow machine; a run of five minutes on two cores completes some forty.
_SECONDS_OF_AN_UPGRADE_AT_MOST = 30.0
_ALL_KINDS_WITHIN_S = 120.0
_ALL_POINTS_WITHIN_S = 1500.0


def summary(verdict):
    """Everything that is shown, as plain values."""
    return {
        **verdict.counts,
        "faults": {name: verdict.faults[name] for name in FAULTS},
        "crash points": {name: verdict.points[name] for name in CRASH_POINTS},
        "crash points never reached": [name for name in CRASH_POINTS if not verdict.points[name]],
        "cut off as the README says": verdict.exemptions,
        "violations": verdict.violations,
        "values lost": verdict.values_lost,
    }


def gaps(verdict, seconds):
    """What such a run should have brought about and did not: then it says nothing about that.

    Some crash points come seldom, so a short run need not reach them.
    """
    counts = verdict.counts
    found = [name for name in COUNTED if not counts[name]]
    if counts["upgrades completed"] < seconds / _SECONDS_OF_AN_UPGRADE_AT_MOST:
        found.append(f"only {counts['upgrades completed']} upgrades completed")
    if seconds >= _ALL_KINDS_WITHIN_S:
        found += [name for name in FAULTS if not verdict.faults[name]]
    if seconds >= _ALL_POINTS_WITHIN_S:
        found += [name for name in CRASH_POINTS if not verdict.points[name]]
    return found


def show(verdict, console=None):
    """The table."""
    said = summary(verdict)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name in verdict.counts:
        table.add_row(name, f"{said[name]:,}")
    _add_section(table, "faults injected", said["faults"])
    _add_section(table, "crash points reached", said["crash points"])
    table.add_section()
    never = said["crash points never reached"]
    table.add_row("crash points never reached", str(len(never)))
    table.add_row("cut off as the README says", str(verdict.exemptions))
    table.add_row("violations", str(len(verdict.violations)))
    table.add_row("values lost", str(verdict.values_lost))
    console = console or Console()
    console.print(table)
    for name in never:
        console.print(f"never reached: {name}")
    for violation in verdict.violations:
        console.print(f"violation: {violation}", markup=False, highlight=False)


def _add_section(table, title, numbers):
    table.add_section()
    table.add_row(title, f"{sum(numbers.values()):,}")
    for name, number in numbers.items():
        table.add_row(f"  {name}", f"{number:,}")
