"""R8, R28: shared data, by the rules of the store alone."""

from dataclasses import replace

import pytest

from peerupgrade.core.requests import (
    Audit,
    Audited,
    Conversion,
    Convert,
    NoShare,
    NotNow,
    Origin,
    Put,
    Share,
    Stale,
    Write,
    Written,
)
from peerupgrade.core.store import StoreState, execute
from tests.core.builders import V, member, record

RAISED = record("2.0", data=V("1.0"), raised_revision=8, settled_revision=8)
ORIGIN = Origin("a", 1, "g", 8)


@pytest.fixture
def state():
    """Three records of the version before, and a cluster that has settled at the next one."""
    state = StoreState(record=record("1.0", raised_revision=5))
    state.members["a"] = member("a", "2.0")
    for key in ("x", "y", "z"):
        put(state, key, "1.0", raised=5)
    state.record = RAISED
    return state


def ask(state, request):
    return execute(state, request, 1_000_000, "server")[0]


def put(state, key, format_="2.0", raised=8, origin=ORIGIN):
    change = Put(key, format_, b"new")
    return ask(state, Write(replace(origin, raised_revision=raised), "notes", (change,)))


def convert(state, share=None, *, payload=b"converted", count=2):
    done = (
        tuple(Conversion(key, one.format, one.stamp, payload) for key, one in share.records)
        if share
        else ()
    )
    at, then = (share.at, share.then) if share else ("", "")
    return ask(state, Convert(ORIGIN, "notes", "2.0", at, then, done, count))


def formats(state):
    return {key: one.format for key, one in state.collections["notes"].records.items()}


def test_a_write_of_an_older_acting_version_is_refused(state):
    assert put(state, "x", "1.0", raised=5) == Stale("acting")
    assert isinstance(put(state, "x"), Written)


def test_a_write_of_whoever_is_no_member_any_more_is_refused(state):
    assert put(state, "x", origin=replace(ORIGIN, incarnation=0)) == Stale("member")
    assert put(state, "x", origin=replace(ORIGIN, id="gone")) == Stale("member")


def test_a_record_that_was_written_meanwhile_is_left_alone(state):
    share = convert(state)
    put(state, "x")
    put(state, "x", "1.0")  # even if it is in the format in which it was read
    convert(state, share)
    assert state.collections["notes"].records["x"].payload == b"new"


def test_nothing_is_converted_before_all_have_settled(state):
    state.record = replace(RAISED, settled_revision=5)
    assert convert(state) == NotNow()


def test_the_checkpoint_moves_with_the_work(state):
    """Whoever took a share and died has converted nothing: its successor gets it again."""
    first = convert(state)
    assert isinstance(first, Share)
    assert [key for key, _ in convert(state).records] == [key for key, _ in first.records]
    while isinstance(first, Share):
        first = convert(state, first)
    assert first == NoShare("done")
    assert set(formats(state).values()) == {"2.0"}


def audit(state, count=2):
    return ask(state, Audit("token", 3, "notes", "2.0", count))


def test_an_audit_is_one_pass_that_began_when_all_had_settled(state):
    state.master_token = "token"
    for key in ("x", "y", "z"):
        put(state, key)
    state.record = replace(RAISED, settled_revision=5)
    assert [audit(state) for _ in range(3)] == [Audited(False, 0)] * 3
    state.record = RAISED
    assert [audit(state) for _ in range(3)] == [
        Audited(False, 0),
        Audited(True, 0),
        Audited(True, 0),
    ]
    state.record = replace(RAISED, raised_revision=9, settled_revision=9)
    assert audit(state) == Audited(False, 0)
