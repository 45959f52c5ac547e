"""Small worlds: a stage, an observer, and a number of faults that may still strike.

Theory of operation: a world begins as a cluster that has formed and settled at the first version.
`moves` lists everything that can happen next: what is under way, what operators do (every node
gets the next versions, in any order and at any moment) and what faults do. `after` gives the world
after one of them, or raises the invariant that does not hold there. `key` is equal for worlds of
which one could stand for the other.

What makes worlds small, and what that leaves to the random simulator (`sim`):

- Time passes only when nothing else can happen on a node that runs, and then for longer than any
  quarantine and any lock: messages take milliseconds, and who takes seconds counts as paused. The
  living master goes on extending its lock meanwhile; who polls the store does so, too.
- The copy that outlives a loss is made when the store begins to lose writes, not at each write. No
  more than a few writes are lost, and no seconds pass until they are.
- A node contends for the lock only while that is free; everything else leaves it where it is.
- How fine an event is depends on the *grain*:

  fine    Subscriptions deliver at once, unless a fault stalls them or pauses the node; so they are
          late all at once. A lock request and its answer are one event, as is whatever changes
          nothing in the store. All else is an event of its own.
  medium  Once the store has done a request, its answer is heard at once, and what cannot make the
          node operate at another version is on its disk at once: nobody else can tell. A process
          that dies in between is the same as one that dies before, if its request is done after
          all ("crash unanswered").
  coarse  A request that only says what its sender is (admission, report, attaching) is done when it
          is sent: to be late with it is to be late with what led to it. A node that operates at
          nothing begins to operate as soon as it may. A node that sleeps is told the newest of
          what it missed under each acting version and each verification.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from peerupgrade.core.effects import InstalledChanged, Stop, Timer
from peerupgrade.core.requests import Commit
from peerupgrade.core.versions import Version, parse_version
from peerupgrade.sim.fingerprint import fingerprint
from peerupgrade.sim.ghost import Ghost, forgot, judge
from peerupgrade.sim.stage import Event, Happened, Host, Stage, StageConfig

_WAIT_S = 6.0  # longer than the quarantine, and than the lock
_EXTEND_S = 1.0
_BY_THE_CLOCK = (Timer.EXTEND, Timer.STEP_DOWN, Timer.ROUND, Timer.RETRY_STORE)
_POLLS = (Timer.RETRY_STORE, Timer.DECIDE)
_WRITES_NOTHING = ("saved", "crash", "pause", "stall")
STRIKES = ("crash", "crash unanswered", "pause", "resume", "stall", "unstall", "lag", "lose")


class Grain(StrEnum):
    """How much is one event."""

    FINE = "fine"
    MEDIUM = "medium"
    COARSE = "coarse"


_FINE = frozenset(("heard", "drained", "read"))
_MEDIUM = _FINE | {"reply", "saved"}
_SAYS_WHAT_IT_IS = {"Admit", "Report", "Leave", "Attach"}
_NOTES = {"upgrade began", "upgrade withdrawn"}  # steps of a master that nothing depends on
_PROMPT = {
    Grain.FINE: _FINE,
    Grain.MEDIUM: _MEDIUM,
    Grain.COARSE: _MEDIUM | _SAYS_WHAT_IT_IS | _NOTES | {"first switch", "newest"},
}


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of each may still strike."""

    crashes: int = 0
    losses: int = 0  # the store loses its last writes
    pauses: int = 0  # of a process
    stalls: int = 0  # of a node's subscriptions
    put_backs: int = 0  # of a node, by a careful operator, to the version before

    def cover(self, other: Faults) -> bool:
        """True if none of them is fewer than of the other."""
        return all(getattr(self, one.name) >= getattr(other, one.name) for one in fields(Faults))


@dataclass(frozen=True, slots=True)
class Config:
    """One small world.

    Attributes:
        in_place: software is replaced under the running process instead of by a restart.
        swift: a node that is stopped for other software starts again before anything else happens.
        with_replica: losses come from failovers; otherwise from a restart of the only server.
        lost_writes: how many writes a loss takes at most.
        begins_before: every node has the next version already, and the master is about to commit
            this step: a world where more faults can be gone through.
    """

    nodes: int = 3
    versions: tuple[str, ...] = ("1.0", "2.0")
    faults: Faults = Faults()
    in_place: bool = False
    swift: bool = False
    with_replica: bool = True
    grain: Grain = Grain.COARSE
    lost_writes: int = 2
    begins_before: str = ""


@dataclass(slots=True)
class World:
    """A stage, what the observer knows, and what may still go wrong."""

    config: Config
    stage: Stage
    ghost: Ghost
    faults: Faults
    lagging: bool = False

    @property
    def key(self) -> bytes:
        """Equal for worlds of which one could stand for the other, if it has faults enough left."""
        return fingerprint(self.stage, self.ghost.remarks(self.stage), lagging=self.lagging)

    @property
    def ended(self) -> bool:
        """True when everybody operates at the newest version, and nothing is left to do."""
        record, operating = self.stage.store.state.record, self.stage.operating()
        newest = parse_version(self.config.versions[-1])
        return (
            record is not None
            and record.identity == self.stage.store.identity
            and record.acting == record.data == newest
            and record.upgrade is None
            and len(operating) == len(self.stage.hosts)
            and all(node.version == newest for node in operating)
        )

    # --- what can happen --------------------------------------------------------------------------

    def moves(self) -> list[Event]:
        """Everything that can happen next."""
        happening = [event for event in self.stage.possible() if self._counts(event)]
        moves = [*happening, *self._operators(), *self._faults()]
        if self.lagging:
            return self._before_the_loss(moves)
        hosts = self.stage.hosts
        busy = any(hosts[event.host].node is not None for event in happening)
        if not busy and self._waits():
            moves.append(Event("wait", ""))
        return moves

    def _before_the_loss(self, moves: list[Event]) -> list[Event]:
        """The first write is lost at once, and after the last one only what writes nothing goes on.

        What writes nothing might as well have happened before the store began to lose writes.
        """
        lost = self._lost_writes()
        if lost == 0:
            return [move for move in moves if move.kind not in _WRITES_NOTHING]
        if lost < self.config.lost_writes:
            return moves
        return [move for move in moves if move.kind in (*_WRITES_NOTHING, "switched", "lose")]

    def _counts(self, event: Event) -> bool:
        if event.timer is None:
            return True
        if event.timer is Timer.CONTEND:
            return not self.stage.lock_held
        return event.timer not in _BY_THE_CLOCK

    def _waits(self) -> bool:
        """True if something goes on by the clock alone."""
        now_ms, state = self.stage.store_now_ms, self.stage.store.state
        if now_ms < state.quarantine_until_ms:
            return True
        for host in self.stage.hosts.values():
            if host.awake and any(timer not in _BY_THE_CLOCK for timer in host.timers):
                return True
        return False

    def _operators(self) -> Iterator[Event]:
        newest = parse_version(self.config.versions[-1])
        for host in self.stage.hosts.values():
            if host.node is None:
                yield Event("start", host.name)
                if host.ended and self._before(host) is not None:
                    yield Event("put back", host.name)
            elif host.installed < newest and not host.paused and self._may_follow(host):
                yield Event("replace in place" if self.config.in_place else "replace", host.name)
            if self.faults.put_backs and host.awake and self._before(host) is not None:
                yield Event("stop", host.name)

    def _may_follow(self, host: Host) -> bool:
        """A careful operator leaves no version out: the cluster must act at the one before."""
        record = self.stage.store.state.record
        return record is not None and record.acting is not None and host.installed <= record.acting

    def _faults(self) -> Iterator[Event]:
        faults = self.faults
        for host in self.stage.hosts.values():
            if host.node is None:
                continue
            if faults.crashes:
                yield Event("crash", host.name)
                for which in range(0 if self.config.grain is Grain.FINE else len(host.asked)):
                    yield Event("crash unanswered", host.name, which)
            if host.paused:
                yield Event("resume", host.name)
            elif faults.pauses:
                yield Event("pause", host.name)
            if host.stalled:
                yield Event("unstall", host.name)
            elif faults.stalls:
                yield Event("stall", host.name)
        if self.lagging and self._lost_writes():
            yield Event("lose", "")
        elif faults.losses and not self.lagging:
            yield Event("lag", "")

    def _lost_writes(self) -> int:
        """What a loss would take, counted in revisions."""
        state, kept = self.stage.store.state, self.stage.store.copy
        assert state.record is not None
        assert kept.record is not None
        members = state.members_revision - kept.members_revision
        return members + sum(state.record.order) - sum(kept.record.order)

    def _version(self, text: str) -> tuple[Version, Version]:
        """A version, and the lowest that its software supports: each supports the one before."""
        index = self.config.versions.index(text)
        return parse_version(text), parse_version(self.config.versions[max(0, index - 1)])

    def _next(self, host: Host) -> tuple[Version, Version]:
        versions = self.config.versions
        return self._version(versions[versions.index(str(host.installed)) + 1])

    def _before(self, host: Host) -> tuple[Version, Version] | None:
        """Where it can be put back to; a careful operator never goes below what it operated at."""
        index = self.config.versions.index(str(host.installed))
        before = self._version(self.config.versions[index - 1]) if index else None
        known = host.disk.record.acting if host.disk.record is not None else None
        return None if before is None or (known is not None and before[0] < known) else before

    # --- what happens -----------------------------------------------------------------------------

    def after(self, move: Event) -> tuple[World, Happened]:
        """The world after a move.

        Raises:
            ViolationError: an invariant does not hold in it.
        """
        world = copy(self)
        world.stage = self.stage.clone()
        world.do(move)
        happened = world.stage.take()
        world.ghost = judge(world.stage, world.ghost, happened)
        return world, happened

    def do(self, move: Event) -> None:
        """Make a move here."""
        stage, name = self.stage, move.host
        match move.kind:
            case "start":
                stage.start(name)
                _first_disk(stage, name)
            case "replace":
                stage.kill(name, lose_requests=self.config.grain is not Grain.FINE)
                stage.install(name, *self._next(stage.hosts[name]))
                if self.config.swift:
                    self.do(Event("start", name))
            case "replace in place":
                installed, lowest = self._next(stage.hosts[name])
                stage.install(name, installed, lowest)
                stage.feed(name, InstalledChanged(installed, lowest))
            case "stop":
                self._spend("put_backs")
                stage.feed(name, Stop(leave=False))
            case "put back":
                before = self._before(stage.hosts[name])
                assert before is not None
                stage.install(name, *before)
                stage.start(name)
                _first_disk(stage, name)
            case "wait":
                self._wait()
            case _:
                if move.kind in STRIKES:
                    self._strike(move)
                else:
                    stage.do(move)

    def _strike(self, move: Event) -> None:
        stage, name = self.stage, move.host
        match move.kind:
            case "crash":
                self._spend("crashes")
                stage.kill(name, lose_requests=self.config.grain is not Grain.FINE)
            case "crash unanswered":
                self._spend("crashes")
                stage.kill(name)
                stage.do(Event("store", name, move.which))
            case "pause":
                self._spend("pauses")
                stage.pause(name)
            case "resume":
                stage.resume(name)
            case "stall":
                self._spend("stalls")
                stage.stall(name)
            case "unstall":
                stage.unstall(name)
            case "lag":
                self._spend("losses")
                self.lagging = True
                stage.replicate()
                stage.cut_replica()
            case "lose":
                self.lagging = False
                stage.fail_over()
                self.ghost = forgot(stage, self.ghost)
            case _:
                pass

    def _spend(self, fault: str) -> None:
        self.faults = replace(self.faults, **{fault: getattr(self.faults, fault) - 1})

    def _wait(self) -> None:
        """Seconds pass. Whoever is master and runs goes on being master."""
        stage = self.stage
        stage.drop_late()
        for _ in range(round(_WAIT_S / _EXTEND_S)):
            stage.pass_time(_EXTEND_S)
            for name, host in list(stage.hosts.items()):
                if host.awake and Timer.EXTEND in host.timers:
                    stage.do(Event("timer", name, timer=Timer.EXTEND))
        for name, host in list(stage.hosts.items()):
            for timer in _POLLS:
                if host.awake and timer in stage.hosts[name].timers:
                    stage.do(Event("timer", name, timer=timer))


def _first_disk(stage: Stage, name: str) -> None:
    """The token of a start is on disk before anyone sees it: a crash before is no start at all."""
    if stage.hosts[name].saving is not None:
        stage.do(Event("saved", name))


def formed(config: Config) -> World:
    """A cluster that acts at the first version, settled and at rest."""
    stage_config = StageConfig(
        hosts=config.nodes,
        with_replica=config.with_replica,
        prompt=_PROMPT[config.grain],
    )
    stage = Stage(stage_config)
    first = parse_version(config.versions[0])
    for index in range(config.nodes):
        stage.add(f"n{index + 1}", first, first)
        stage.start(f"n{index + 1}")
    stage.live(10.0)
    assert len(stage.operating()) == config.nodes
    stage.replicate()
    if config.begins_before:
        _bring_to(stage, config)
    stage.take()
    return World(config, stage, Ghost.of(stage), config.faults)


def _bring_to(stage: Stage, config: Config) -> None:
    """Everybody has the second version, and all but one commit is done."""
    before, installed = (parse_version(text) for text in config.versions[:2])
    for name in stage.hosts:
        stage.install(name, installed, before)
        stage.feed(name, InstalledChanged(installed, before))

    def may_happen(event: Event) -> bool:
        if event.kind != "store":
            return event.timer is None
        request = stage.hosts[event.host].asked[event.which].call.request
        return not isinstance(request, Commit) or request.step != config.begins_before

    while (event := next(filter(may_happen, stage.possible()), None)) is not None:
        stage.do(event)
    assert any(host.asked for host in stage.hosts.values())
