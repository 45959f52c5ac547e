"""What an all-seeing observer is told of a simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from peerupgrade.core.effects import Emit, Operate, Order
from peerupgrade.core.record import ClusterRecord
from peerupgrade.core.requests import Reply, Request

if TYPE_CHECKING:
    from peerupgrade.sim.servers import SimStore
    from peerupgrade.sim.world import Machine


@dataclass(frozen=True, slots=True)
class Started:
    """A process started."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Fed:
    """A node took an input, and its effects were carried out."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Said:
    """A node begins or stops operating, or says something."""

    machine: Machine
    effect: Operate | Emit


@dataclass(frozen=True, slots=True)
class Stored:
    """A store has executed a request; `before` is the record as it was."""

    store: SimStore
    request: Request
    reply: Reply
    before: ClusterRecord | None


@dataclass(frozen=True, slots=True)
class TakenDown:
    """An orchestrator takes a machine's process down, by permission."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class StepBegins:
    """A step of a rollout begins on a machine."""

    machine: Machine
    order: Order


@dataclass(frozen=True, slots=True)
class StepRan:
    """It was done, whoever comes to know of it."""

    machine: Machine
    order: Order


@dataclass(frozen=True, slots=True)
class Lost:
    """The store has forgotten what it had acknowledged."""


Observed: TypeAlias = Started | Fed | Said | Stored | TakenDown | StepBegins | StepRan | Lost
