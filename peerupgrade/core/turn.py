"""One member's turn in a rollout: from the first step to the last, each at most once.

Theory of operation: what step the member is at is on its disk before the step begins (`Work`), and
again once it has ended. So a step that ended never runs again, whatever dies meanwhile; one that
this process has not begun itself, and whose end is not on the disk, was cut short: then somebody
looks whether it was done, and where nothing can say, a person decides.

    drain -> leave -> install -> restart -> verify -> return -> undrain

`leave` and `return` are the member's own: it says that it does not serve (R26), and is admitted
anew. Nothing is installed before the store knows that it has left; and where its program is probed
it has returned only once that is healthy.

A turn that was given up is over although the program is not healthy, or cannot be undrained. Then
the member stays drained, and says so: it is undrained once the program is healthy. What failed is
done again after a pause that grows, and at once by the next process, since somebody has started it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peerupgrade.core.effects import Effect, Emit, Order, RunTurnStep, StepOutcome, Timer
from peerupgrade.core.health import Prober
from peerupgrade.core.membership import Membership
from peerupgrade.core.record import (
    HealthState,
    Standing,
    Turn,
    TurnStep,
    Work,
    WorkState,
    is_healthy,
)
from peerupgrade.core.versions import Version, parse_version

_ORDER = tuple(TurnStep)
_NOTE_CHARS_MAX = 500
_OVER = (TurnStep.RETURN, TurnStep.UNDRAIN)
_UNDRAIN_AGAIN_S = (5.0, 300.0)


@dataclass(slots=True)
class Walker:
    """The machine."""

    membership: Membership
    prober: Prober
    _heard: bool = False  # what the store says of this node
    _turn: Turn | None = None
    _own: tuple[str, TurnStep, int] | None = None  # the step that this process has begun itself
    _running: Order | None = None
    _waits_until_s: float | None = None  # for its program to be healthy, or to try again
    _returned_at: tuple[object, ...] | None = None  # as things were when it asked to come back

    def follow(self, now: float) -> list[Effect]:
        """Do what comes next, if anything does."""
        self._hear()
        membership = self.membership
        if not self._heard or membership.saving or not membership.registered:
            return []
        work, turn = membership.memory.work, self._turn
        if work is None or work.over:
            return self._begin(now, turn, work)
        given_up = self._given_up(work)
        if work.state in (WorkState.FAILED, WorkState.UNKNOWN):
            if given_up:
                return self._come_back(work)
            assert turn is not None
            return self._again(work, turn) if turn.attempt > work.attempt else []
        if work.state is WorkState.WAITS:
            if given_up:
                return self._come_back(work)
            return self._next(work, given_up=False) if self._is_installed(work) else []
        return self._go_on(now, work, given_up=given_up)

    def _again(self, work: Work, turn: Turn) -> list[Effect]:
        """What failed runs once more; without the version there is nothing to verify."""
        missing = work.step is TurnStep.VERIFY and not self._is_installed(work)
        step = TurnStep.INSTALL if missing else work.step
        again = replace(work, step=step, attempt=turn.attempt, note="")
        return self._save(self._beginning(again))

    def _beginning(self, work: Work) -> Work:
        """A step that begins; a person installs where nothing else does."""
        by_hand = work.step is TurnStep.INSTALL and not self.membership.config.installs
        waits = by_hand and not self._is_installed(work)
        return replace(work, state=WorkState.WAITS if waits else WorkState.RUNS)

    def _given_up(self, work: Work) -> bool:
        turn = self._turn
        return turn is None or turn.id != work.turn or bool(turn.given_up)

    def _hear(self) -> None:
        """Only a store that is verified says whose turn it is."""
        view, me = self.membership.view, self.membership.config.id
        if view is None or not view.verified or view.record is None:
            return
        rollout = view.record.rollout
        self._heard, self._turn = True, rollout.turn_of(me) if rollout is not None else None

    # --- the beginning ----------------------------------------------------------------------------

    def _begin(self, now: float, turn: Turn | None, last: Work | None) -> list[Effect]:
        drained = last if last is not None and last.state is WorkState.DRAINED else None
        if turn is None or (last is not None and last.turn == turn.id):
            return self._undrain(now, drained) if drained is not None else []
        membership, record = self.membership, self.membership.memory.record
        work = Work(turn.id, turn.version, str(membership.config.installed), attempt=turn.attempt)
        if turn.given_up or self._is_installed(work):
            if drained is not None:
                work = replace(work, step=drained.step, note=drained.note)
            state = WorkState.ENDED if drained is None else WorkState.DRAINED
            return self._save(replace(work, state=state))
        # R17: on this disk first, so that a store that forgets is told of it again.
        known = record.rollout.turn_of(turn.node) if record is not None and record.rollout else None
        if known is None or known.id != turn.id or membership.operating is None:
            return []
        return [Emit("turn", f"from {work.before} to {work.version}"), *self._save(work)]

    def _undrain(self, now: float, drained: Work) -> list[Effect]:
        """Out of its turn nobody can ask for what failed to be done again."""
        if self.membership.operating is None or not is_healthy(self.membership.health):
            return []
        failed = drained.step is TurnStep.UNDRAIN
        if failed and self._own == _key(drained):
            if self._waits_until_s is None:
                low, high = _UNDRAIN_AGAIN_S
                return self._wait_until(now + min(high, low * 2 ** min(drained.attempt - 1, 10)))
            if now < self._waits_until_s:
                return []
        attempt = drained.attempt + failed
        again = replace(drained, step=TurnStep.UNDRAIN, attempt=attempt, note="")
        return self._save(self._beginning(again))

    def _is_installed(self, work: Work) -> bool:
        return has_got(self.membership.config.installed, work.version, work.before)

    # --- one step after the other -----------------------------------------------------------------

    def _go_on(self, now: float, work: Work, *, given_up: bool) -> list[Effect]:
        match work.step:
            case TurnStep.LEAVE:
                if self.membership.has_left:  # R26
                    return self._next(work, given_up=given_up)
                return self.membership.set_away(now, True)
            case TurnStep.RETURN:
                return self._return(now, work, given_up=given_up)
            case _:
                return self._run(work, given_up=given_up)

    def _run(self, work: Work, *, given_up: bool) -> list[Effect]:
        if self._running is not None or (work.out_of_service and not self.membership.has_left):
            return []
        begun = self._own == _key(work)
        if given_up and not begun and work.step in (TurnStep.DRAIN, TurnStep.VERIFY):
            return self._come_back(work)  # it was cut short, and nobody wants it any more
        self._running = Order(work, look=not begun)
        return [RunTurnStep(self._running)]

    def _return(self, now: float, work: Work, *, given_up: bool) -> list[Effect]:
        membership = self.membership
        if membership.standing is not Standing.AWAY:
            if membership.operating is None:
                return []
            return self._heal(now, work, given_up=given_up)
        assert membership.view is not None
        now_as = (membership.view.record, membership.config.installed)
        if self._returned_at == now_as:
            return []  # it has asked, and nothing has changed since
        self._returned_at = now_as
        return membership.set_away(now, False)

    def _heal(self, now: float, work: Work, *, given_up: bool) -> list[Effect]:
        """What is not healthy gets no work again: it is waited for, unless nobody wants it."""
        health, probing = self.membership.health, self.prober.probing
        if health is None or probing is None or is_healthy(health):
            return self._next(work, given_up=False)
        note = f"its probes fail: {health.note}" if health.note else "its probes say nothing yet"
        if given_up and health.state is HealthState.UNHEALTHY:
            return self._save(replace(work, state=WorkState.DRAINED, note=note))
        if self._waits_until_s is None:
            return self._wait_until(now + probing.wait_s)
        if now < self._waits_until_s:
            return []
        note = f"not healthy within {probing.wait_s:g} s, {note}"
        return self._save(replace(work, state=WorkState.FAILED, note=note))

    def _wait_until(self, at_s: float) -> list[Effect]:
        self._waits_until_s = at_s
        return [self.prober.timers.set(Timer.TURN, at_s)]

    def ended(self, now: float, order: Order, outcome: StepOutcome, note: str) -> list[Effect]:
        """A step has run, or somebody has looked whether it had."""
        if order != self._running:
            return []
        self._running = None
        work = replace(order.work, note=" ".join(note.split())[:_NOTE_CHARS_MAX])
        told = Emit("step", f"{work.step} {outcome}" + (f": {work.note}" if work.note else ""))
        match outcome:
            case StepOutcome.DONE:
                return [told, *self._done(work)]
            case StepOutcome.NOT_DONE if self._given_up(work) and work.step is TurnStep.INSTALL:
                return [told, *self._come_back(work)]
            case StepOutcome.NOT_DONE:
                self._own = _key(work)
                return [told, *self.follow(now)]
            case StepOutcome.FAILED:
                return [told, *self._save(replace(work, state=WorkState.FAILED))]
            case StepOutcome.UNKNOWN:
                return [told, *self._save(replace(work, state=WorkState.UNKNOWN))]

    def _done(self, work: Work) -> list[Effect]:
        if work.step is TurnStep.VERIFY and not self._is_installed(work):
            installed = self.membership.config.installed
            note = f"{work.version} was to be installed, and it is {installed}"
            return self._save(replace(work, state=WorkState.FAILED, note=note))
        return self._next(work, given_up=self._given_up(work))

    def _next(self, work: Work, *, given_up: bool) -> list[Effect]:
        if work.step is TurnStep.UNDRAIN:
            return self._save(replace(work, state=WorkState.ENDED))
        if given_up and work.step not in (TurnStep.INSTALL, *_OVER):
            return self._come_back(work)  # what was installed shall also run
        step = _ORDER[_ORDER.index(work.step) + 1]
        return self._save(self._beginning(replace(work, step=step)))

    def _come_back(self, work: Work) -> list[Effect]:
        """With what it has, from wherever it is."""
        over = work.step is TurnStep.RETURN and work.state is WorkState.FAILED
        if over and is_healthy(self.membership.health):
            return self._next(work, given_up=False)
        if over or work.step is TurnStep.UNDRAIN:
            return self._save(replace(work, state=WorkState.DRAINED))
        newer = work.step is TurnStep.INSTALL and self._is_installed(work)
        step = TurnStep.RESTART if newer else TurnStep.RETURN
        return self._save(replace(work, step=step, state=WorkState.RUNS))

    def _save(self, work: Work) -> list[Effect]:
        self._own, self._returned_at, self._waits_until_s = _key(work), None, None
        comes_back = work.step is TurnStep.RETURN and work.state is WorkState.RUNS
        begun = self.prober.begin() if comes_back else []  # the program may be another one now
        return [*begun, *self.membership.remember_work(work)]


def has_got(installed: Version, version: str, before: str) -> bool:
    """Whether what is installed is what a turn gives: newer will do, but not on the way back."""
    wanted = parse_version(version)
    return installed == wanted if wanted < parse_version(before) else installed >= wanted


def _key(work: Work) -> tuple[str, TurnStep, int]:
    return (work.turn, work.step, work.attempt)
