"""From all having settled to the data version: who converts, what the master waits for."""

from dataclasses import replace

import pytest

from peerupgrade.core.acting import Progress, StepName, next_step
from peerupgrade.core.blockers import Code, all_blockers
from peerupgrade.core.conversion import Converter
from peerupgrade.core.effects import CallStore, ConvertRecords, SetTimer
from peerupgrade.core.pace import Felt, Pace
from peerupgrade.core.progress import all_progress, target_format
from peerupgrade.core.record import CollectionView, Hold, Parked, Upgrade
from peerupgrade.core.requests import Conversion, NoShare, Origin, Share, Stored
from peerupgrade.core.timers import Timers
from tests.core.builders import V, member, record, snapshot

NOTES = {"notes": ("1.0", "2.0")}
SETTLED = record("2.0", data=V("1.0"), raised_revision=8, settled_revision=8)
OLD = Stored("1.0", 7, b"old")
DONE = (Conversion("k", "1.0", 7, b"new"),)
REST = Felt(0.001, 0.001)


def origin(raised=8):
    return Origin("a", 1, "g", raised)


class Machine:
    """One converter; the record that its node has."""

    def __init__(self, formats=NOTES, pace=None):
        self.core = Converter(Timers(), formats, pace or Pace(full=True))
        self.call = 0

    def follow(self, the_record=SETTLED, who=None, now=1.0):
        due = (who or origin()) if self.core.is_due(the_record) else None
        return self.asked(self.core.follow(now, due, the_record))

    def reply(self, reply, now=1.0):
        return self.asked(self.core.replied(now, self.call, reply))

    def converted(self, now=1.0, felt=REST):
        return self.asked(self.core.converted(now, self.call, DONE, 0.001, felt))

    def asked(self, effects):
        for effect in effects:
            if isinstance(effect, CallStore):
                self.call = effect.call
        return effects


def test_nothing_is_converted_before_all_have_settled():
    machine = Machine()
    assert machine.follow(replace(SETTLED, settled_revision=7)) == []
    assert machine.follow(replace(SETTLED, data=V("2.0"))) == []
    assert machine.follow(replace(SETTLED, pause=Hold("ann", "peak", 1))) == []
    (ask,) = machine.follow()
    assert (ask.request.collection, ask.request.target, ask.request.at) == ("notes", "2.0", "")


def test_a_program_without_collections_converts_nothing():
    assert Machine(formats={}).follow() == []
    assert Machine(formats={"notes": ("3.0",)}).follow() == []


def test_a_share_is_converted_and_brought_back_with_the_next_request():
    machine = Machine()
    machine.follow()
    (work,) = machine.reply(Share("0", "9", (("k", OLD),)))
    assert work == ConvertRecords("notes", "2.0", (("k", OLD),), machine.call)
    (ask,) = machine.converted()
    assert (ask.request.at, ask.request.then, ask.request.done) == ("0", "9", DONE)


def test_a_program_older_than_the_data_leaves_it_to_others():
    machine = Machine(formats={"notes": ("1.0", "2.0"), "other": ("2.0",)})
    machine.follow()
    newer = replace(OLD, format="2.1")
    (ask,) = machine.reply(Share("0", "9", (("k", OLD), ("m", newer))))
    assert ask.request.collection == "other"
    (timer,) = machine.reply(NoShare("done"))
    (ask,) = machine.asked(machine.core.go_on(timer.at_s))
    assert ask.request.collection == "other"


def test_an_empty_share_only_moves_the_checkpoint():
    machine = Machine()
    machine.follow()
    (ask,) = machine.reply(Share("0", "9", ()))
    assert (ask.request.at, ask.request.then, ask.request.done) == ("0", "9", ())


def test_it_waits_as_the_pace_says():
    machine = Machine(pace=Pace())
    machine.follow()
    machine.reply(Share("0", "9", (("k", OLD),)))
    machine.converted(felt=Felt())
    (timer,) = machine.reply(Share("9", "0", (("k", OLD),)))
    assert isinstance(timer, SetTimer)
    assert timer.at_s > 1.0
    (work,) = machine.core.go_on(timer.at_s)
    assert isinstance(work, ConvertRecords)


def test_one_collection_after_the_other_and_then_again():
    machine = Machine(formats={"a": ("2.0",), "b": ("2.0",)})
    (ask,) = machine.follow()
    assert ask.request.collection == "a"
    (ask,) = machine.reply(NoShare("taken", 3000))
    assert ask.request.collection == "b"
    (timer,) = machine.reply(NoShare("done"))
    assert isinstance(timer, SetTimer)
    (ask,) = machine.asked(machine.core.go_on(timer.at_s))
    assert ask.request.collection == "a"


@pytest.mark.parametrize(
    ("the_record", "who"),
    [(replace(SETTLED, pause=Hold("ann", "peak", 1)), origin()), (SETTLED, origin(9))],
)
def test_what_was_under_way_is_void_when_the_record_changes(the_record, who):
    machine = Machine()
    machine.follow()
    old_call = machine.call
    machine.follow(the_record, who)
    assert machine.core.replied(1.0, old_call, Share("0", "0", (("k", OLD),))) == []
    assert machine.core.converted(1.0, old_call, DONE, 0.001, REST) == []


# --- what the master waits for --------------------------------------------------------------------


def view(counts, formats=("1.0", "2.0"), the_record=SETTLED, **notes):
    one = member("a", "2.0", collections={"notes": formats} if formats else {})
    shown = CollectionView(counts=counts, **notes)
    return snapshot(
        replace(the_record, upgrade=Upgrade("1.0", 1)), one, collections={"notes": shown}
    )


def decide(shown, *audited, **progress):
    return next_step(shown, shown.now_ms, Progress(audited=frozenset(audited), **progress))


def blocked(shown):
    return {(one.code, one.subject) for one in all_blockers(shown, shown.now_ms)}


def test_the_data_version_rises_when_counts_and_scan_agree():
    done = view({"2.0": 5})
    assert decide(done) is None
    assert decide(done, "notes", data_durable=True).name is StepName.CONVERTED
    assert decide(done, "notes", data_durable=True, data_read=False) is None
    assert blocked(done) == {(Code.CONVERTING, "notes")}


def test_the_data_version_waits_until_the_replicas_have_what_was_converted():
    again = decide(view({"2.0": 5}), "notes")
    assert again.name is StepName.AUDITED
    assert again.record.data == V("1.0")


def test_older_records_block_although_a_scan_has_found_none():
    shown = view({"1.0": 1, "2.0": 5}, converted=4, began_at_ms=1_000_000 - 8000)
    assert decide(shown, "notes") is None
    (blocker,) = all_blockers(shown, shown.now_ms)
    assert blocker.evidence == (
        "notes: [################....] 5 of 6 records done, to format 2.0, about 2 s left"
    )


def test_a_parked_record_blocks_by_name():
    shown = view({"1.0": 1}, parked={"k": Parked("1.0", "ValueError: no", 5)})
    assert decide(shown, "notes") is None
    assert blocked(shown) == {(Code.PARKED, "notes/k")}


def test_many_parked_records_are_summed_up():
    parked = {f"k{n:02}": Parked("1.0", "no", 5) for n in range(30)}
    found = blocked(view({"1.0": 30}, parked=parked))
    assert len(found) == 21
    assert (Code.PARKED, "notes") in found


def test_records_that_no_member_knows_block():
    shown = view({"1.0": 1}, formats=())
    assert decide(shown, "notes") is None
    assert blocked(shown) == {(Code.NO_CODEC, "notes")}


def test_an_empty_collection_blocks_nothing():
    assert decide(view({}, formats=()), data_durable=True).name is StepName.CONVERTED


def test_a_pause_is_named():
    paused = replace(SETTLED, pause=Hold("ann", "peak hour", 1))
    (blocker,) = all_blockers(view({"1.0": 1}, the_record=paused), 1_000_000)
    assert "paused by ann: peak hour" in blocker.evidence
    assert blocker.remedy == "peerupgrade data resume"


def test_the_target_is_the_newest_format_of_the_acting_version():
    assert target_format(("1.0", "2.0", "3.0"), V("2.5")) == "2.0"
    assert target_format(("1.9", "1.10"), V("2.0")) == "1.10"
    assert target_format(("3.0",), V("2.0")) == ""


def test_progress_without_a_record_is_none():
    assert all_progress(snapshot(None), 0) == []
