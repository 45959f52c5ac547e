"""How a rollout would go, if every step succeeds: by the rules that the master goes by.

Theory of operation: it is played through. In a copy of the cluster every member is up, well and
answers, and the rollout is in the record; `rollout_step` says what the master would commit, and
what it says is done in the copy. When it has nothing to say the copy's clock goes on to what is
awaited: the end of the turns, of a soak, of a window's absence, of the bake.

In the copy all turns take equally long, so those of a batch begin and end together. In truth one
may take longer than another: the order stays the same, and `After` says how far two batches can
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from peerupgrade.core.acting import Step, StepName
from peerupgrade.core.record import (
    ClusterRecord,
    Member,
    Rollout,
    Slot,
    Snapshot,
    Standing,
    Turn,
    TurnStep,
    Work,
    WorkState,
)
from peerupgrade.core.requests import SetRollout
from peerupgrade.core.rollout import (
    bakes_until_ms,
    candidate,
    rollout_step,
    soaks_until_ms,
    window_opens_at_ms,
)
from peerupgrade.core.steering import Resume, steer
from peerupgrade.core.versions import parse_version


class After(StrEnum):
    """What a batch waits for, beside a soak and a window."""

    PLACE = "place"  # its first member only until one of those that are down is back
    ALL = "all"  # until everybody before it is back
    RESUME = "resume"  # and then until somebody has looked, and resumed the rollout


@dataclass(frozen=True, slots=True)
class Batch:
    """Members that are down together.

    Attributes:
        members: their ids, in the order in which they are taken down.
        after: what it waits for.
        begins_at_ms: when, by the store's clock, if nothing else is to be waited for, turns take
            as long as was said, and somebody resumes at once.
    """

    members: tuple[str, ...]
    after: After
    begins_at_ms: int


@dataclass(frozen=True, slots=True)
class Foresight:
    """`ends_at_ms`: when the rollout is over, with its bake, under the same assumptions."""

    batches: tuple[Batch, ...]
    ends_at_ms: int


def foresee(snapshot: Snapshot, rollout: Rollout, turn_ms: int) -> Foresight:
    """Play a rollout through.

    Args:
        snapshot: of the store; its cluster has formed.
        rollout: as it would begin.
        turn_ms: so long does a turn take.
    """
    play = _Play(_at_its_best(snapshot, rollout), snapshot.now_ms, turn_ms)
    while play.goes_on():
        pass
    return Foresight(tuple(play.batches), play.now_ms)


def _at_its_best(snapshot: Snapshot, rollout: Rollout) -> Snapshot:
    """Nothing is in the way, and whoever is next has its slot."""
    record = snapshot.record
    assert record is not None
    members = {
        name: replace(
            member,
            standing=Standing.SERVING,
            operating_revision=record.raised_revision,
            health=None,
        )
        for name, member in snapshot.members.items()
    }
    slots = {
        name: Slot(name, f"rollout {rollout.id}", rollout.started_at_ms, member.incarnation)
        for name, member in members.items()
    }
    record = _committed(replace(record, rollout=rollout, identity=snapshot.identity))
    return replace(snapshot, record=record, members=members, slots=slots)


def _committed(record: ClusterRecord) -> ClusterRecord:
    """As the store writes it: turns are told apart by the revision."""
    return replace(record, revision=record.revision + 1)


class _Play:
    """The copy, and what has happened in it."""

    def __init__(self, view: Snapshot, now_ms: int, turn_ms: int) -> None:
        self.view, self.now_ms, self._turn_ms = view, now_ms, turn_ms
        self.batches: list[Batch] = []
        self._after = After.PLACE  # of the next batch
        self._batch: list[str] = []  # that is being filled

    def goes_on(self) -> bool:
        """One step; False: it was the last one."""
        rollout = self._rollout
        step = rollout_step(self.view, self.now_ms, self.view.members)
        if step is not None:
            return self._commit(step)
        if rollout.turns:
            self._end_batch()
        else:
            self.now_ms = min(moment for moment in self._awaited() if moment > self.now_ms)
        return True

    @property
    def _rollout(self) -> Rollout:
        assert self.view.record is not None
        assert self.view.record.rollout is not None
        return self.view.record.rollout

    def _commit(self, step: Step) -> bool:
        record = _committed(step.record)
        self.view = replace(self.view, record=record, now_ms=self.now_ms)
        match step.name:
            case StepName.TURN_GIVEN:
                self._batch.append(self._rollout.turns[-1].node)
            case StepName.ROLLOUT_PAUSED:
                resumed = steer(self.view, Resume(""))
                assert isinstance(resumed, SetRollout)
                self.view = replace(self.view, record=replace(record, rollout=resumed.rollout))
                self._after = After.RESUME
            case StepName.ROLLOUT_ENDED:
                return False
            case _:
                assert step.name is StepName.TURN_ENDED
        return True

    def _end_batch(self) -> None:
        """Nobody else is taken down before a turn has ended: here all of them do."""
        self.batches.append(Batch(tuple(self._batch), self._after, self.now_ms))
        self._batch = []
        # Whoever could go if there were room goes once there is some.
        place = candidate(self.view, self.now_ms) is not None
        self._after = After.PLACE if place else After.ALL
        self.now_ms += self._turn_ms
        members, slots = dict(self.view.members), dict(self.view.slots)
        for turn in self._rollout.turns:
            members[turn.node] = _brought(members[turn.node], turn, self.now_ms)
            del slots[turn.node]
        self.view = replace(self.view, members=members, slots=slots, now_ms=self.now_ms)

    def _awaited(self) -> tuple[int, ...]:
        return (
            soaks_until_ms(self.view),
            window_opens_at_ms(self._rollout, self.now_ms),
            bakes_until_ms(self.view),
        )


def _brought(member: Member, turn: Turn, now_ms: int) -> Member:
    """At the end of its turn."""
    before, step = str(member.installed), TurnStep.UNDRAIN
    return replace(
        member,
        installed=parse_version(turn.version),
        work=Work(turn.id, turn.version, before, step, WorkState.ENDED),
        joined_at_ms=now_ms,
    )
