"""Every order of everything that can happen in a small world.

Theory of operation: a breadth-first search over small worlds. After each move the invariants are
checked. A world is not looked at again if one of the same key was, with at least as many faults
left: whatever can follow from the one follows from the other. So the search ends; being
breadth-first, it finds a shortest path to whatever is wrong. From some worlds, and from all that
nothing leads on from, the faults stop, and it must come to its end, or the reason must be one that
`why` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from copy import copy
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter

from peerupgrade.core.blockers import all_blockers
from peerupgrade.core.requests import Commit, Done
from peerupgrade.core.status import local_blockers, node_status
from peerupgrade.core.store import snapshot
from peerupgrade.core.versions import parse_version
from peerupgrade.sim.checker import ViolationError
from peerupgrade.sim.small import STRIKES, Config, Faults, Grain, World, formed
from peerupgrade.sim.stage import Event, Happened, Host
from peerupgrade.sim.story import outcome

_ROUND_S, _ROUNDS = 10.0, 4
_LOOK_S = 0.5
_TOLD_EVERY = 100

WORLDS = {
    "three nodes, every fault": Config(
        faults=Faults(crashes=1, losses=1, pauses=1), lost_writes=1, swift=True
    ),
    "three nodes, put back": Config(faults=Faults(crashes=1, put_backs=1), swift=True),
    "in place": Config(faults=Faults(crashes=1, losses=1), in_place=True),
    "three versions": Config(
        nodes=2,
        versions=("1.0", "2.0", "3.0"),
        faults=Faults(crashes=1, losses=1, pauses=1),
    ),
    "one server without a replica": Config(
        nodes=2, faults=Faults(crashes=1, losses=1, pauses=1), with_replica=False
    ),
    "late subscriptions": Config(nodes=2, faults=Faults(losses=1, stalls=1), grain=Grain.MEDIUM),
    "every answer, every crash": Config(nodes=2, faults=Faults(crashes=1), grain=Grain.FINE),
}


@dataclass(slots=True)
class Result:
    """What was found."""

    config: Config
    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    recovered: int = 0  # worlds from which it went on to the end by itself
    named: Counter[str] = field(default_factory=Counter)  # or to a reason that `why` names
    problem: str = ""
    path: list[Event] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """What should have been reached and was not: then nothing is known."""
        wanted = ["raised", "settled", "converted", "completed"]
        wanted += [] if self.config.begins_before else ["upgrade began", "floor"]
        faults = self.config.faults
        wanted += ["verified", "lose"] if faults.losses else []
        wanted += ["crash"] if faults.crashes else []
        wanted += ["resume"] if faults.pauses else []
        wanted += ["unstall"] if faults.stalls else []
        wanted += ["put back", "floor withdrawn"] if faults.put_backs else []
        return [what for what in wanted if not self.reached[what]]


class _Seen:
    """The worlds that were reached: by number, each with the move that led to it."""

    def __init__(self) -> None:
        self._faults: dict[bytes, list[Faults]] = {}
        self._steps: list[tuple[int, Event | None]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def number(self, key: bytes, world: World, before: int, move: Event | None) -> int | None:
        """The number of a world that is new; None if another one stands for it."""
        known = self._faults.setdefault(key, [])
        if any(faults.cover(world.faults) for faults in known):
            return None
        known.append(world.faults)
        self._steps.append((before, move))
        return len(self._steps) - 1

    def path(self, number: int) -> list[Event]:
        """The moves that led to a world."""
        path: list[Event] = []
        number, move = self._steps[number]
        while move is not None:
            path.append(move)
            number, move = self._steps[number]
        return path[::-1]


def explore(
    config: Config, sample: int = 1000, progress: Callable[[Result, int], None] | None = None
) -> Result:
    """Go everywhere.

    Args:
        config: the small world.
        sample: from one world in so many, and from every last one, it must recover.
        progress: told now and then, with the number of worlds still to be looked at.

    Returns:
        What was found; the first violation ends the search.
    """
    result, began_s, seen = Result(config), perf_counter(), _Seen()
    start = formed(config)
    seen.number(start.key, start, 0, None)
    frontier = [(0, start)]
    while frontier and not result.problem:
        following: list[tuple[int, World]] = []
        for place, (number, world) in enumerate(frontier):
            if not _expand(number, world, seen, following, result, sample):
                break
            if progress is not None and place % _TOLD_EVERY == 0:
                result.states = len(seen)
                progress(result, len(frontier) - place + len(following))
        frontier = following
        result.depth += 1
    result.states, result.seconds = len(seen), perf_counter() - began_s
    if progress is not None:
        progress(result, 0)
    return result


# Two counters for each world, written by the process that searches it: states, and worlds ahead.
_counters: MutableSequence[int] = [0, 0]


def explore_all(
    names: Sequence[str], sample: int, processes: int, progress: Callable[[int, int, int], None]
) -> Iterator[tuple[str, Result]]:
    """Search several of `WORLDS`, each in one process; in order.

    Args:
        names: of the worlds.
        sample: from one world in so many it must recover.
        processes: how many at a time; an interruption ends them all.
        progress: told the number of a world, its states, and how many worlds are ahead.
    """
    context = get_context("spawn")
    counters = context.RawArray("Q", 2 * len(names))
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_share, initargs=(counters,)
    )
    with pool:
        try:
            searches = [
                pool.submit(_search, name, index, sample) for index, name in enumerate(names)
            ]
            for name, search in zip(names, searches, strict=True):
                while not wait([search], _LOOK_S).done:
                    for index in range(len(names)):
                        progress(index, *counters[2 * index : 2 * index + 2])
                yield name, search.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _share(counters: MutableSequence[int]) -> None:
    global _counters  # noqa: PLW0603 - this is how a pool hands something to its processes
    _counters = counters


def _search(name: str, index: int, sample: int) -> Result:
    def count(result: Result, ahead: int) -> None:
        _counters[2 * index], _counters[2 * index + 1] = result.states, ahead

    return explore(WORLDS[name], sample, count)


def _expand(
    number: int,
    world: World,
    seen: _Seen,
    following: list[tuple[int, World]],
    result: Result,
    sample: int,
) -> bool:
    """Look at all that can follow one world; False at the first problem."""
    key, goes_on = world.key, False
    for move in world.moves():
        result.transitions += 1
        try:
            world_after, happened = world.after(move)
        except (ViolationError, AssertionError) as violation:
            result.problem = str(violation) or "an assertion of the core does not hold"
            result.path = [*seen.path(number), move]
            return False
        _count(result, move, happened)
        key_after = world_after.key
        goes_on = goes_on or key_after != key
        number_after = seen.number(key_after, world_after, number, move)
        if number_after is not None:
            following.append((number_after, world_after))
    if not goes_on or number % sample == 0:
        result.problem = _recovers(world, result)
        result.path = seen.path(number) if result.problem else []
    return not result.problem


def _count(result: Result, move: Event, happened: Happened) -> None:
    for served in happened.served:
        if isinstance(served.request, Commit) and isinstance(served.reply, Done):
            result.reached[served.request.step] += 1
    if move.kind in STRIKES or move.kind == "put back":
        result.reached[move.kind] += 1


def _recovers(world: World, result: Result) -> str:
    """Faults stop, everybody gets the newest version: it ends by itself, or the reason is named."""
    world = copy(world)
    world.stage = stage = world.stage.clone()
    try:
        if _heals(world):
            result.recovered += 1
            return ""
    except AssertionError as error:
        return str(error)
    state, now_ms = stage.store.state, stage.store_now_ms
    blockers = all_blockers(snapshot(state, now_ms, stage.store.identity), now_ms)
    for host in stage.hosts.values():
        if host.node is not None:
            status = node_status(host.node, stage.clock_s)
            blockers += local_blockers(status, now_ms, store_answers=True)
    result.named.update({str(blocker.code) for blocker in blockers})
    return "" if blockers else "L1: it does not come to its end, and no reason is named"


def _heals(world: World) -> bool:
    """True if it comes to its end."""
    stage = world.stage
    if world.lagging:
        stage.mend_replica()
    for name, host in list(stage.hosts.items()):
        if host.paused:
            stage.resume(name)
        if host.stalled:
            stage.unstall(name)
    for _ in range(_ROUNDS * len(world.config.versions)):
        for host in list(stage.hosts.values()):
            _help(world, host)
        stage.live(_ROUND_S)
        if world.ended:
            return True
    return False


def _help(world: World, host: Host) -> None:
    """What an operator does: start what is down or was refused, go on with the upgrade."""
    record = world.stage.store.state.record
    acting = record.acting if record is not None else None
    newest = parse_version(world.config.versions[-1])
    if host.node is None:
        world.do(Event("start", host.name))
    elif host.installed < newest and acting is not None and host.installed <= acting:
        kind = "replace in place" if world.config.in_place else "replace"
        world.do(Event(kind, host.name))
        if world.stage.hosts[host.name].node is None:
            world.do(Event("start", host.name))
    elif host.node.membership.refusal is not None:
        world.stage.kill(host.name)
        world.do(Event("start", host.name))


def story(config: Config, path: list[Event]) -> list[str]:
    """What happened on a path, line by line."""
    world, lines = formed(config), []
    for number, move in enumerate(path, 1):
        what = _told(world, move)
        try:
            world, happened = world.after(move)
        except (ViolationError, AssertionError):
            happened = Happened()
            lines.append(f"{number:3d}  {what}")
            break
        news = [outcome(one.request, one.reply) for one in happened.served]
        news += [
            f"{name} operates at {version}" if version else f"{name} suspends: {reason}"
            for name, version, reason in happened.operated
        ]
        lines.append(f"{number:3d}  {'; '.join([what, *filter(None, news)])}")
    return lines


def _told(world: World, move: Event) -> str:
    host = world.stage.hosts.get(move.host)
    match move.kind:
        case "store" if host is not None:
            request = host.asked[move.which].call.request
            return f"{move.host}'s {type(request).__name__} reaches the store"
        case "reply" if host is not None:
            reply = host.replies[move.which].reply
            return f"{move.host} is answered: {type(reply).__name__}"
        case "timer":
            return f"{move.host}: timer {move.timer}"
        case _:
            return _WORDS.get(move.kind, "{host}: {kind}").format(host=move.host, kind=move.kind)


_WORDS = {
    "saved": "{host}'s disk has it",
    "switched": "{host}'s callbacks have run",
    "start": "{host} starts",
    "replace": "{host} is stopped, and the next version is installed",
    "replace in place": "{host}'s software is replaced while it runs",
    "stop": "{host} is asked to stop for the version before",
    "put back": "{host} starts with the version before",
    "wait": "seconds pass",
    "crash": "{host} dies",
    "pause": "{host} is paused",
    "resume": "{host} goes on",
    "stall": "{host}'s subscriptions hang",
    "unstall": "{host}'s subscriptions go on",
    "lag": "the store begins to lose its writes",
    "lose": "another server process takes over, without them",
}
