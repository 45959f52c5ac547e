"""R29: who may be taken down, by the rules of the store alone."""

from dataclasses import replace

import pytest

from peerupgrade.core.record import Standing
from peerupgrade.core.requests import Conflict, Done, Outcome, Refused, ReturnSlot, TakeSlot
from peerupgrade.core.store import StoreState, execute
from tests.core.builders import member, record


def store(*members):
    state = StoreState(record=record())
    state.members.update((one.id, one) for one in members)
    return state


def ask(state, request):
    reply, _ = execute(state, request, 1000, "server")
    return reply.rule if isinstance(reply, Refused) else type(reply)


def test_no_more_members_are_down_by_permission_than_the_budget_says():
    state = store(member("a"), member("b"), member("c", standing=Standing.AWAY))
    assert ask(state, TakeSlot("a", "ann", 1)) == "budget_spent"  # c is down anyway
    assert ask(state, TakeSlot("a", "ann", 2)) is Done
    assert ask(state, TakeSlot("b", "bob", 2)) == "budget_spent"
    assert ask(state, TakeSlot("a", "bob", 2)) == "slot_taken"
    assert ask(state, TakeSlot("a", "ann", 2)) is Done


def test_what_a_member_said_before_it_was_taken_down_proves_nothing():
    state = store(member("a"))
    ask(state, TakeSlot("a", "ann", 1))
    assert ask(state, ReturnSlot("a", "ann")) == "slot_in_use"
    state.members["a"] = replace(state.members["a"], incarnation=2)
    assert ask(state, ReturnSlot("a", "ann")) is Done


def test_what_came_before_a_slot_was_asked_for_again_proves_nothing():
    """Whoever had it first has died, and the member was started anew for another reason."""
    state = store(member("a"))
    ask(state, TakeSlot("a", "ann", 1))
    state.members["a"] = replace(state.members["a"], incarnation=2)
    assert ask(state, TakeSlot("a", "ann", 1)) is Done
    assert ask(state, ReturnSlot("a", "ann")) == "slot_in_use"


@pytest.mark.parametrize("outcome", Outcome)
def test_a_slot_stays_taken_while_its_member_is_down(outcome):
    state = store(member("a"))
    ask(state, TakeSlot("a", "ann", 1))
    state.members["a"] = replace(state.members["a"], incarnation=2, operating_revision=0)
    assert ask(state, ReturnSlot("a", "ann", outcome)) == "slot_in_use"


def test_a_master_takes_none_by_a_decision_from_an_older_record():
    state = store(member("a"))
    state.master_token = "m"
    asked = TakeSlot("a", "rollout 3", 1, "m", state.record.epoch, state.record.revision)
    assert ask(state, replace(asked, revision=asked.revision - 1)) is Conflict
    assert state.slots == {}
    assert ask(state, asked) is Done
