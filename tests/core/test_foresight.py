"""A plan's batches are what a rollout does, whoever is quick and whoever is slow."""

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerupgrade.core.acting import StepName
from peerupgrade.core.foresight import After, foresee
from peerupgrade.core.record import Slot, Standing, TurnStep, Work, WorkState, is_down
from peerupgrade.core.requests import Done, TakeSlot
from peerupgrade.core.rollout import (
    bakes_until_ms,
    hands_over,
    rollout_step,
    slot_request,
    soaks_until_ms,
    window_opens_at_ms,
)
from peerupgrade.core.steering import Resume, Start, begun, steer
from peerupgrade.core.store.slots import return_slot, take_slot
from peerupgrade.core.store.state import Step, StoreState
from peerupgrade.core.store.state import snapshot as snapshot_of
from peerupgrade.core.strategy import Strategy
from tests.core.builders import V, member, record, snapshot

NOW_MS = 1_780_000_000_000
LAST = {"upgrade": "last"}


@dataclass
class World:
    """A cluster whose rollout is decided by the master's rules and the store's, step by step.

    Every turn takes as long as `takes_ms` says for the node; whoever the master hands over to is
    left to chance, and so is when somebody resumes.
    """

    view: object
    takes_ms: dict
    chance: Random
    patient: bool = True
    now_ms: int = NOW_MS
    taken: list = field(default_factory=list)  # who was taken down, who was down then, when
    resumed: list = field(default_factory=list)  # how many had been taken down by then
    ends_ms: dict = field(default_factory=dict)  # of the turns under way
    over_ms: int = 0

    def __post_init__(self):
        self.state = StoreState(
            self.view.record, dict(self.view.members), slots=dict(self.view.slots)
        )
        self.sure = set()

    def run(self):
        while self.state.record.rollout is not None:
            view = snapshot_of(self.state, self.now_ms, "server")
            step = rollout_step(view, self.now_ms, self.sure)
            if step is not None:
                self._commit(step)
            elif hands_over(view, self.now_ms):
                self._hand_over()
            elif not self._slot(slot_request(view, self.now_ms, self.sure)):
                self._wait(view)
        self.over_ms = self.now_ms

    def _commit(self, step):
        self._write(step.record)
        if step.name is StepName.TURN_GIVEN:
            turn = self.state.record.rollout.turns[-1]
            down = {name for name in self.ends_ms if name != turn.node}
            self.taken.append((turn.node, down, self.now_ms))
            self.ends_ms[turn.node] = self.now_ms + self.takes_ms[turn.node]
            leaving = replace(self.state.members[turn.node], standing=Standing.AWAY)
            Step(self.state, self.now_ms, "server").put_member(leaving)
        elif step.name is StepName.ROLLOUT_PAUSED:
            assert step.record.rollout.pause.by == "canary"
            self.resumed.append(len(self.taken))
            self.now_ms += self.chance.randrange(5000) if self.patient else 0
            view = snapshot_of(self.state, self.now_ms, "server")
            self._write(replace(view.record, rollout=steer(view, Resume("ann")).rollout))

    def _write(self, the_record):
        self.state.record = replace(the_record, revision=the_record.revision + 1)

    def _hand_over(self):
        the_record = self.state.record
        others = [
            one.id
            for one in self.state.members.values()
            if one.id != the_record.master and not is_down(the_record, one)
        ]
        self._write(replace(the_record, master=self.chance.choice(sorted(others))))

    def _slot(self, request):
        if request is None:
            return False
        act = take_slot if isinstance(request, TakeSlot) else return_slot
        done = isinstance(act(Step(self.state, self.now_ms, "server"), request), Done)
        self.sure -= {request.id}
        self.sure |= {request.id} if done and isinstance(request, TakeSlot) else set()
        return done

    def _wait(self, view):
        """Until a turn ends, or time alone brings something."""
        moments = [
            *self.ends_ms.values(),
            soaks_until_ms(view),
            window_opens_at_ms(view.record.rollout, self.now_ms),
            bakes_until_ms(view),
        ]
        self.now_ms = min(moment for moment in moments if moment > self.now_ms)
        for name in [name for name, end_ms in self.ends_ms.items() if end_ms <= self.now_ms]:
            del self.ends_ms[name]
            turn, one = self.state.record.rollout.turn_of(name), self.state.members[name]
            ended = (str(one.installed), TurnStep.UNDRAIN, WorkState.ENDED)
            back = replace(
                one,
                installed=V(turn.version),
                standing=Standing.SERVING,
                work=Work(turn.id, turn.version, *ended),
                joined_at_ms=self.now_ms,
            )
            Step(self.state, self.now_ms, "server").put_member(back)


clusters = st.lists(
    st.builds(
        lambda installed, zone, labels: {"installed": installed, "zone": zone, "labels": labels},
        st.sampled_from(["1.0", "1.1", "1.2", "1.3", "2.0", "3.0"]),
        st.sampled_from(["", "east", "west"]),
        st.sampled_from([{}, {}, {}, {}, LAST]),
    ),
    min_size=1,
    max_size=9,
)
how = st.builds(
    Strategy,
    budget=st.integers(1, 4),
    budget_percent=st.sampled_from([0, 0, 0, 50, 100]),
    canary=st.sampled_from([0, 0, 0, 1, 2, 3]),
    soak_ms=st.sampled_from([0, 0, 700, 5000]),
    one_zone=st.booleans(),
    windows=st.sampled_from([(), (), ("sun 00:00-24:00",), ("22:00-22:01", "mon 05:00-06:00")]),
    bake_ms=st.sampled_from([0, 0, 9000]),
)


def begin(nodes, strategy, skip, master):
    """The cluster before, and with the rollout in its record."""
    names = [f"n{number}" for number in range(len(nodes))]
    members = [
        member(name, one["installed"], zone=one["zone"], labels=one["labels"], joined_at_ms=1)
        for name, one in zip(names, nodes, strict=True)
    ]
    view = snapshot(record(master=names[master % len(names)]), *members, now_ms=NOW_MS)
    asked = Start("2.0", "ann", strategy=strategy, skip=tuple(sorted(set(skip) & set(names))))
    rollout = begun(view, view.record, asked)
    written = replace(view.record, rollout=rollout, revision=view.record.revision + 1)
    return view, rollout, replace(view, record=written)


skips = st.lists(st.sampled_from(["n0", "n3", "n5"]), max_size=2)
masters = st.integers(0, 8)


@settings(max_examples=300)
@given(clusters, how, skips, masters, st.randoms(use_true_random=False))
def test_the_order_and_what_is_waited_for_are_the_rollouts_own(nodes, strategy, skip, master, rng):
    view, rollout, began = begin(nodes, strategy, skip, master)
    seen = foresee(view, rollout, rng.choice([0, 100]))
    world = World(began, {name: rng.randrange(1, 3000) for name in view.members}, rng)
    world.run()
    order = [name for batch in seen.batches for name in batch.members]
    assert [name for name, _, _ in world.taken] == order
    first_of = {batch.members[0]: batch.after for batch in seen.batches}
    budget = strategy.budget_of(len(nodes))
    for number, (name, down, _) in enumerate(world.taken):
        assert len(down) < budget
        assert not down or first_of.get(name, After.PLACE) is After.PLACE
        assert (number in world.resumed) == (first_of.get(name) is After.RESUME)


@given(clusters, how, skips, masters, st.randoms(use_true_random=False))
def test_where_all_turns_take_equally_long_the_batches_and_their_times_are_exact(
    nodes, strategy, skip, master, rng
):
    view, rollout, began = begin(nodes, strategy, skip, master)
    turn_ms = rng.randrange(1, 3000)
    seen = foresee(view, rollout, turn_ms)
    world = World(began, dict.fromkeys(view.members, turn_ms), rng, patient=False)
    world.run()
    batches = {}
    for name, _, at_ms in world.taken:
        batches.setdefault(at_ms, []).append(name)
    assert [(one.begins_at_ms, [*one.members]) for one in seen.batches] == [*batches.items()]
    assert seen.ends_at_ms == world.over_ms


def batches(*members, master="", **strategy):
    view = snapshot(record(master=master), *members, now_ms=NOW_MS)
    rollout = begun(view, view.record, Start("2.0", "ann", strategy=Strategy(**strategy)))
    return [(one.members, one.after) for one in foresee(view, rollout, 0).batches]


FOUR = [
    member(name, zone=zone) for name, zone in zip("abcd", ("z1", "z2", "z1", "z2"), strict=True)
]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"budget": 4}, [("acbd", "place")]),
        ({"budget": 3}, [("acb", "place"), ("d", "place")]),
        ({"budget_percent": 50}, [("ac", "place"), ("bd", "place")]),
        ({"budget": 4, "canary": 1}, [("a", "place"), ("cbd", "resume")]),
        ({"budget": 2, "canary": 3}, [("ac", "place"), ("b", "place"), ("d", "resume")]),
        ({"budget": 4, "one_zone": True}, [("ac", "place"), ("bd", "all")]),
        (
            {"budget": 1, "canary": 4},
            [("a", "place"), ("c", "place"), ("b", "place"), ("d", "place")],
        ),
    ],
)
def test_a_batch_is_filled_up_to_what_may_be_down(strategy, expected):
    assert batches(*FOUR, **strategy) == [(tuple(names), after) for names, after in expected]


def test_the_master_and_who_is_labelled_to_be_last_go_alone():
    last = [member(name, labels=LAST) for name in "xy"]
    found = batches(*FOUR[:2], *last, member("m"), master="m", budget=5)
    assert found == [
        (("a", "b"), "place"),
        (("m",), "all"),
        (("x",), "all"),
        (("y",), "all"),
    ]


def test_one_zone_is_done_before_the_next_one_begins_whatever_they_have_installed():
    """Else it would depend on who is quick whether the last of a zone goes before the next zone."""
    mixed = zip("abcd", ("1.0", "1.1", "1.2", "1.3"), ("z1", "z2", "z1", "z1"), strict=True)
    members = [member(name, installed, zone=zone) for name, installed, zone in mixed]
    expected = [(("a", "c"), "place"), (("d",), "place"), (("b",), "all")]
    assert batches(*members, budget=2, one_zone=True) == expected


def test_what_the_strategy_waits_for_is_counted_and_a_slot_of_another_is_not_minded():
    view = snapshot(
        record(),
        *(member(name) for name in "ab"),
        now_ms=NOW_MS,
        slots={"a": Slot("a", "bob", 1, 1)},
    )
    strategy = Strategy(soak_ms=5000, bake_ms=60_000)
    seen = foresee(view, begun(view, view.record, Start("2.0", "ann", strategy=strategy)), 1000)
    began = [one.begins_at_ms - NOW_MS for one in seen.batches]
    assert (began, seen.ends_at_ms - NOW_MS) == ([0, 6000], 67_000)
