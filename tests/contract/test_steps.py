"""The application's own steps: Redis, Valkey and memory answer as `core.store` says."""

import pytest
import pytest_asyncio

from peerupgrade.core.requests import (
    Acquire,
    Claim,
    Conflict,
    Done,
    Fenced,
    Refused,
    Release,
    SaveStep,
    SetHold,
    Unverified,
)
from tests.contract import test_store as base
from tests.contract.test_store import HOUR_MS, V1, V2, V3, V11, admit, commit, formed, told

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def stage(place, name):
    async with base.staged(place, name) as stage:
        await formed(stage)
        yield stage


def save(stage, phase="before", version=V2, *, name="fill", number=1, epoch=0, **rest):
    given = {"token": "m1", "checkpoint": '{"at":"\u00e9"}', "done": 1, "total": 3} | rest
    return SaveStep(
        given.pop("token"),
        stage.state.record.epoch + epoch,
        phase,
        version,
        name,
        given.pop("checkpoint"),
        given.pop("done"),
        given.pop("total"),
        number,
        **given,
    )


async def raising(stage, target=V2):
    await stage.call(commit(stage, floor=target))


async def migrating(stage):
    await stage.call(commit(stage, acting=V2, floor=V2, before=V2))
    await stage.call(commit(stage, settled_revision=stage.state.record.raised_revision))


def step(stage):
    (one,) = stage.state.steps.values()
    return one


async def test_a_step_is_saved_and_succeeds_once(stage):
    await raising(stage)
    await told(stage, save(stage), Done)
    began = step(stage).began_at_ms
    await told(stage, save(stage, number=2, done=2, failure="no room"), Done)
    assert (step(stage).done, step(stage).failure) == (2, "no room")
    await told(stage, save(stage, number=3, done=3, finished=True), Done)
    assert (step(stage).finished, step(stage).began_at_ms) == (1, began)
    await told(stage, save(stage, number=4), Refused, "step_finished")
    await told(stage, save(stage, name="other", version=V11, number=7), Done)
    assert len(stage.state.steps) == 2


async def test_what_arrives_late_changes_nothing(stage):
    await raising(stage)
    await told(stage, save(stage, number=2, done=2), Done)
    await told(stage, save(stage, number=2, done=1), Conflict)
    await told(stage, save(stage, number=1, done=1), Conflict)
    assert step(stage).done == 2


async def test_a_superseded_master_saves_nothing(stage):
    await raising(stage)
    late = save(stage)
    await told(stage, save(stage, epoch=-1), Fenced)
    await told(stage, save(stage, token="m2"), Fenced)
    await stage.ask_lock(Release("m1"))
    await stage.ask_lock(Acquire("m2", HOUR_MS))
    await stage.call(Claim("a", "m2", 0))
    await told(stage, late, Fenced)
    assert stage.state.steps == {}
    await told(stage, save(stage, token="m2"), Done)


@pytest.mark.parametrize(("version", "due"), [(V1, False), (V11, True), (V2, True), (V3, False)])
async def test_steps_of_every_version_up_to_the_floor_are_due(stage, version, due):
    await raising(stage)
    await told(stage, save(stage, version=version), Done if due else Refused)
    await told(stage, save(stage, "migration", version), Refused, "step_not_due")


async def test_before_a_raise_and_after_its_steps_none_is_due(stage):
    await told(stage, save(stage), Refused, "step_not_due")
    await raising(stage)
    await stage.call(commit(stage, before=V2))
    await told(stage, save(stage), Refused, "step_not_due")


@pytest.mark.parametrize(("version", "due"), [(V1, False), (V11, True), (V2, True), (V3, False)])
async def test_migrations_are_due_once_all_have_settled(stage, version, due):
    await stage.call(commit(stage, acting=V2, floor=V2, before=V2))
    await told(stage, save(stage, "migration", version), Refused, "step_not_due")
    await stage.call(commit(stage, settled_revision=stage.state.record.raised_revision))
    await told(stage, save(stage, "before", version), Refused, "step_not_due")
    await told(stage, save(stage, "migration", version), Done if due else Refused)


async def test_migrations_pause_with_the_conversion_and_end_with_it(stage):
    await migrating(stage)
    await stage.call(SetHold("ann", "lunch", what="pause"))
    await told(stage, save(stage, "migration"), Refused, "step_not_due")
    await stage.call(commit(stage, pause=None))
    await told(stage, save(stage, "migration"), Done)
    await stage.call(commit(stage, data=V2))
    await told(stage, save(stage, "migration", number=2), Refused, "step_not_due")


async def test_nothing_is_saved_in_doubt_or_where_there_is_no_record(stage):
    await raising(stage)
    late = save(stage)
    await stage.change_identity()
    await told(stage, late, Unverified)
    await stage.flush()
    await told(stage, late, Fenced)


async def test_members_say_which_steps_they_have(stage):
    await stage.call(admit("b", "b1", steps=("before 2.0", "migration 2.0")))
    assert stage.state.members["b"].steps == ("before 2.0", "migration 2.0")
