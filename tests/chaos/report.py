"""What a run amounts to, for people and for programs."""

from rich.console import Console
from rich.table import Table

from peerupgrade.core.crashpoints import CRASH_POINTS
from tests.chaos.plan import FAULTS


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
