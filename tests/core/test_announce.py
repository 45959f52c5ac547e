"""What nodes say when a record changes."""

from dataclasses import replace

from peerupgrade.core.announce import announcements
from peerupgrade.core.record import Completion, Hold, Upgrade
from tests.core.builders import V, record


def words(before, after):
    return [f"{told.event}: {told.detail}" for told in announcements(before, after)]


def test_a_raise_from_its_beginning_to_its_end():
    before = record()
    began = replace(before, revision=11, upgrade=Upgrade("1.0", 1000))
    assert words(before, began) == ["upgrade began: from 1.0"]
    floor = replace(began, revision=12, floor=V("2.0"))
    assert words(began, floor) == ["floor: 2.0: nothing older joins from here on"]
    raised = replace(floor, revision=13, acting=V("2.0"), raised_revision=13)
    assert words(floor, raised) == ["acting: 2.0, was 1.0"]
    settled = replace(raised, revision=14, settled_revision=13)
    assert words(raised, settled) == ["settled: every member operates at 2.0"]
    done = Completion("1.0", "2.0", 1000, 3500)
    complete = replace(settled, revision=15, upgrade=None, completion=done)
    assert words(settled, complete) == ["completed: 2.0 after 2.5 s"]


def test_a_hold_and_its_end():
    before = record()
    held = replace(before, revision=11, hold=Hold("ann", "friday", 1))
    assert words(before, held) == ["held: by ann: friday"]
    assert words(held, replace(before, revision=12)) == ["released: "]


def test_another_master_and_another_verification():
    before = record(master="a")
    assert words(before, replace(before, master="b", epoch=4)) == ["new master: b, epoch 4"]
    verified = replace(before, revision=11, doubt=7)
    assert "verified" in words(before, verified)[0]


def test_what_is_not_newer_says_nothing():
    before = record()
    assert words(before, before) == []
    assert words(None, before) == []
    assert words(before, None) == []
