"""Crash points: everything that leaves something behind has a name."""

from typing import get_args

from peerupgrade.core import effects, requests
from peerupgrade.core.crashpoints import CRASH_POINTS, DEEDS, deed
from peerupgrade.core.effects import CallLock, CallStore, Part
from peerupgrade.core.requests import Acquire, Commit
from tests.core.builders import record

NOT_A_NODES = (
    *get_args(requests.OperatorRequest),
    requests.Resolve,
    requests.Write,
    requests.SaveStep,
)
READS = (
    requests.Read,
    requests.ReadAll,
    requests.Seeds,
    requests.Fetch,
    requests.Scan,
    requests.Audit,
)
# What leaves nothing behind that outlives the process.
PASSING = (
    effects.CallStore,
    effects.CallLock,
    effects.SetTimer,
    effects.WatchMembers,
    effects.StopSteps,
    effects.Operate,
    effects.RunProbes,
    effects.Tell,
    effects.Emit,
    effects.Stopped,
)


def test_every_effect_and_request_is_named_or_leaves_nothing_behind():
    for kind in set(get_args(effects.Effect)) - set(PASSING):
        assert deed(object.__new__(kind)) in DEEDS
    for kind in set(get_args(requests.Request)) - {Commit, *NOT_A_NODES, *READS}:
        assert deed(CallStore(Part.MEMBERSHIP, object.__new__(kind), 1)) in DEEDS
    for kind in READS:
        assert deed(CallStore(Part.MEMBERSHIP, object.__new__(kind), 1)) == ""


def test_commits_are_named_by_their_step_and_locks_by_what_is_asked():
    commit = Commit("token", 1, 1, 1, record(), "raised", "")
    assert deed(CallStore(Part.MASTER, commit, 1)) == "commit raised"
    assert deed(CallLock(0, Acquire("token", 1000), 1)) == "lock acquire"


def test_each_has_a_place_before_and_a_place_after():
    assert len(CRASH_POINTS) == 2 * len(DEEDS) == len(set(CRASH_POINTS))
    assert {"before remember", "after commit floor"} <= set(CRASH_POINTS)
