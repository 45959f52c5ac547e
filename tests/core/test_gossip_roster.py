"""What is known of each node, and how news is divided."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerupgrade.core.gossip.packets import Condition, Heartbeat
from peerupgrade.core.gossip.roster import Roster, supersedes
from peerupgrade.core.gossip.spreading import COPIES, NEWS_MAX, Queue, relays
from peerupgrade.core.versions import parse_version

V1 = parse_version("1.0")
A = Heartbeat("a", 3, 5, V1, V1, "127.0.0.1:1")

heartbeats = st.builds(
    lambda name, incarnation, number, condition: replace(
        A, id=name, incarnation=incarnation, number=number, condition=condition
    ),
    st.sampled_from("abc"),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(Condition),
)


def made(*names):
    roster = Roster()
    for name in names:
        roster.hear(replace(A, id=name))
    return roster


@pytest.mark.parametrize(
    ("newer", "older"),
    list(
        itertools.combinations(
            [
                replace(A, incarnation=4, number=1),
                replace(A, number=6),
                replace(A, condition=Condition.LEFT),
                replace(A, condition=Condition.FAILED),
                replace(A, condition=Condition.SUSPECT),
                A,
            ],
            2,
        )
    ),
)
def test_two_heartbeats_of_a_node_are_always_ordered(newer, older):
    assert supersedes(newer, older)
    assert not supersedes(older, newer)
    assert not supersedes(newer, newer)


@given(st.lists(heartbeats, max_size=8), st.randoms())
def test_who_heard_the_same_knows_the_same_whatever_the_order(heard, random):
    # Nobody begins to know a node by hearing that it has gone.
    known = [replace(A, id=name, incarnation=1, number=0) for name in "abc"]
    shuffled = list(heard)
    random.shuffle(shuffled)
    one, other = Roster(), Roster()
    for heartbeat in known + heard:
        one.hear(heartbeat)
    for heartbeat in known + shuffled + shuffled:
        other.hear(heartbeat)
    assert one.heartbeats == other.heartbeats
    assert one.present == other.present == tuple(sorted(one.present))
    assert one.digest == other.digest
    for name in "abc":
        one.forget(name)
    assert (one.present, one.digest) == ((), 0)


def test_digests_differ_when_heartbeats_do():
    one, other = made("a", "b"), made("a", "b")
    other.hear(replace(A, number=A.number + 1))
    assert one.digest != other.digest
    one.hear(replace(A, number=A.number + 1))
    assert one.digest == other.digest


def test_an_unknown_node_that_has_gone_is_not_remembered():
    roster = Roster()
    assert not roster.hear(replace(A, condition=Condition.LEFT))
    assert not roster.heartbeats
    roster.hear(A)
    assert roster.hear(replace(A, condition=Condition.LEFT))
    assert roster.heartbeats["a"].condition is Condition.LEFT
    assert roster.present == ()


def test_others_begin_with_the_neighbour():
    roster = made("a", "b", "c", "d")
    assert tuple(roster.others("b")) == ("c", "d", "a")
    assert tuple(roster.others("bb")) == ("c", "d", "a", "b")
    assert tuple(roster.others("d")) == ("a", "b", "c")
    assert roster.others("d")[1:] == ("b", "c")
    assert not made("a").others("a")


@pytest.mark.parametrize("me", ["a", "b", "d", "bb", "zz"])
def test_nobody_is_among_the_others_of_itself(me):
    others = made("a", "b", "c", "d").others(me)
    assert {one for one in (*"abcd", "bb", "e", 1) if one in others} == set("abcd") - {me}
    with pytest.raises(IndexError):
        others[len(others)]


def test_the_nodes_up_to_one_of_them_go_around_the_ring():
    roster = made("a", "b", "c", "d")
    assert roster.after("a", "c") == ("b", "c")
    assert roster.after("c", "a") == ("d", "a")
    assert roster.after("b", "bb") == ()


@given(st.integers(0, 300))
def test_relays_share_out_everybody_once(count):
    ids = [f"{number:03}" for number in range(count)]
    parts = relays(ids)
    shared = [ids[ids.index(first) : ids.index(last) + 1] for first, last in parts]
    assert list(itertools.chain(*shared)) == ids
    assert len(parts) == min(8, count)
    sizes = list(map(len, shared))
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_news_are_handed_on_a_few_times_and_the_newest_first():
    queue = Queue()
    for number in range(NEWS_MAX + 1):
        queue.add(str(number))
    first, _ = queue.take(3)
    assert len(first) == NEWS_MAX
    queue.add("newest")
    assert queue.take(3)[0][:2] == [str(NEWS_MAX), "newest"]
    taken = 0
    while queue:
        queue.take(3)
        taken += 1
        assert taken <= 2 * COPIES
