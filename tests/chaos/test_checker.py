"""The checker itself: a healthy run passes, and each invariant that breaks is reported."""

import pytest

from tests.chaos.checker import HEARS_WITHIN_S, judge
from tests.chaos.journal import CLOCK_ERROR_S

LATE_S = 100.0


class Story:
    """A small journal, written by hand: each line a second after the one before."""

    def __init__(self):
        self.lines = []
        self.now_s = 0.0
        self.revision = 0

    def add(self, kind, **what):
        self.now_s += 1.0
        self.lines.append({"at_s": self.now_s, "kind": kind, **what})
        return self

    def began(self, node, installed, lowest="1.0", start=1, lease_s=0.0, disk=0):
        return self.add(
            "began",
            node=node,
            start=start,
            installed=installed,
            lowest=lowest,
            lease_s=lease_s,
            disk=disk,
        )

    def installed(self, node, installed, lowest="1.0", start=1):
        return self.add("installed", node=node, start=start, installed=installed, lowest=lowest)

    def operates(self, node, version, start=1):
        return self.add("operates", node=node, start=start, version=version)

    def operation(self, node, version, start=1, incarnation=1):
        return self.add(
            "operation",
            node=node,
            start=start,
            version=version,
            incarnation=incarnation,
            began_s=self.now_s + 1.0,
        )

    def asked(self, acting):
        return self.add("asked", acting=acting, began_s=self.now_s + 1.0)

    def decided(self, step, before, after, inputs="", **changes):
        self.revision += 1
        entry = {"by": "a", "epoch": 1, "revision": self.revision, **changes}
        return self.add("history", step=step, before=before, after=after, inputs=inputs, **entry)

    def lost(self, fault="store failed over", forgotten=()):
        return self.add("lost", fault=fault, began_s=self.now_s, forgotten=list(forgotten))

    def wrote(self, seq, key="k"):
        return self.add("wrote", key=key, seq=seq, format="1.0", began_s=self.now_s + 0.5)

    def read(self, seq, key="k"):
        return self.add("read", key=key, seq=seq, format="1.0", began_s=self.now_s + 0.5)

    def noted(self, seq, key="k"):
        return self.add("noted", key=key, seq=seq, began_s=self.now_s + 0.5)

    def note(self, seq, *through, key="k"):
        began_s = self.now_s + 0.5
        return self.add("note", key=key, seq=seq, through=list(through), began_s=began_s)

    def sorted(self):
        return sorted(self.lines, key=lambda line: line["at_s"])


def formed(**first):
    """Two nodes at 1.0; what is told of the first can be changed."""
    story = Story().began("a", "1.0", **first).began("b", "1.0", start=2)
    story.decided("formed", "", "1.0", "1.0: a, b")
    return story.operates("a", "1.0").operates("b", "1.0", start=2)


def upgraded():
    """Both have gone to 1.1, in every step."""
    story = formed().installed("a", "1.1").installed("b", "1.1", start=2)
    story.decided("upgrade began", "1.0", "1.0", "1.1: a, b")
    story.decided("floor", "1.0", "1.0", "1.1: a, b")
    story.decided("raised", "1.0", "1.1", "1.1: a, b")
    story.operates("a", "1.1").operates("b", "1.1", start=2)
    story.decided("settled", "1.1", "1.1").decided("converted", "1.1", "1.1")
    return story.decided("completed", "1.1", "1.1", "1.1: a, b")


def reported(story):
    return judge(story.sorted()).violations


def assert_reported(story, rule):
    """Exactly this rule is named, and nothing else."""
    found = reported(story)
    assert found
    assert {violation.partition(":")[0] for violation in found} == {rule}, found


def test_a_healthy_run():
    story = upgraded().operation("a", "1.1").asked("1.1").wrote(1).read(1)
    verdict = judge(story.sorted())
    assert verdict.violations == []
    assert verdict.values_lost == verdict.exemptions == 0
    assert verdict.counts["upgrades completed"] == verdict.counts["raises"] == 1
    assert verdict.counts["operations"] == 1


def test_s1_acting_above_what_an_operating_node_has():
    story = formed().installed("a", "1.1")
    story.installed("b", "1.1", start=2).decided("raised", "1.0", "1.1", "1.1: a, b")
    # Only afterwards: at the moment of the raise it is S13.
    assert_reported(story.installed("b", "1.0", start=2), "S1")


def test_s1_not_by_what_the_command_of_a_killed_agent_wrote_after_its_end():
    story = formed().add("ended", node="b", start=2, status=-9)
    story.operates("b", "1.0", start=2).installed("a", "1.1")
    assert reported(story.decided("raised", "1.0", "1.1", "1.1: a").operates("a", "1.1")) == []


def test_s2_the_history_goes_back():
    assert_reported(formed().decided("held", "1.0", "0.9"), "S2")


def test_s3_outside_of_what_it_supports():
    story = Story().began("a", "1.1", lowest="1.1").decided("formed", "", "1.0", "1.1: a")
    assert_reported(story.operates("a", "1.0"), "S3")


def test_s4_epoch_and_revision_twice():
    story = formed().decided("floor", "1.0", "1.0", "1.0: a, b", revision=50)
    assert_reported(story.decided("settled", "1.0", "1.0", revision=50), "S4")


def test_s4_another_epoch_may_reuse_the_revision_after_a_loss():
    story = formed().decided("floor", "1.0", "1.0", "1.0: a, b", revision=50).lost()
    assert reported(story.decided("settled", "1.0", "1.0", revision=50, epoch=9)) == []


def test_s5_a_node_goes_back_across_a_restart():
    story = upgraded().add("ended", node="a", start=1, status=-9)
    story.decided("doubted", "1.1", "1.1").began("a", "1.1", start=3)
    assert_reported(story.operates("a", "1.0", start=3), "S5")


def test_s5_a_node_and_the_store_have_both_forgotten():
    story = upgraded().add("ended", node="a", start=1, status=-9).lost()
    story.decided("doubted", "1.1", "1.1").began("a", "1.1", start=3, disk=1)
    assert reported(story.operates("a", "1.0", start=3)) == []


def test_s5_a_lost_disk_alone_is_no_excuse():
    story = upgraded().add("ended", node="a", start=1, status=-9)
    story.decided("doubted", "1.1", "1.1").began("a", "1.1", start=3, disk=1)
    assert_reported(story.operates("a", "1.0", start=3), "S5")


def test_s6_a_value_that_the_reader_does_not_know():
    story = formed().add("read", node="a", start=1, key="k", seq=1, format="1.1", began_s=LATE_S)
    assert_reported(story, "S6")


def two_worlds(**first):
    """`a` goes on at 1.0 while `c`, which does not know that any more, begins at 1.1."""
    story = formed(**first).add("ended", node="b", start=2, status=-9)
    story.decided("doubted", "1.0", "1.0")
    return story.began("c", "1.2", lowest="1.1", start=3).operates("c", "1.1", start=3)


def test_s7_two_nodes_that_do_not_understand_each_other():
    assert_reported(two_worlds(), "S7")


def test_s7_an_operation_tells_that_a_node_operates():
    story = formed().add("ended", node="b", start=2, status=-9)
    story.add("suspended", node="a", start=1, reason="").decided("doubted", "1.0", "1.0")
    story.began("c", "1.2", lowest="1.1", start=3).operates("c", "1.1", start=3)
    assert reported(story) == []
    assert_reported(story.operation("a", "1.0"), "S7")


def test_s8_an_excluded_start_operates():
    story = formed().add("excluded", name="a", incarnation=1)
    assert_reported(story.operation("a", "1.0"), "S8")


def test_s8_a_later_incarnation_may():
    story = formed().add("excluded", name="a", incarnation=1)
    assert reported(story.operation("a", "1.0", incarnation=2)) == []


def test_s8_a_later_start_may():
    story = formed().add("ended", node="a", start=1, status=-9)
    story.add("excluded", name="a", incarnation=7).began("a", "1.0", start=3, disk=1)
    assert reported(story.operates("a", "1.0", start=3).operation("a", "1.0", start=3)) == []


def test_s8_an_operation_that_had_begun_may_end():
    story = formed().add("excluded", name="a", incarnation=1)
    story.operation("a", "1.0").lines[-1]["began_s"] = 0.5
    assert reported(story) == []


def test_s10_a_store_is_trusted_that_knows_less_than_a_node():
    story = upgraded().lost().decided("doubted", "1.0", "1.0")
    assert_reported(story.decided("verified", "1.0", "1.0"), "S10")


def test_r11_an_operation_before_the_callback():
    story = formed().installed("a", "1.1").installed("b", "1.1", start=2)
    story.decided("raised", "1.0", "1.1", "1.1: a, b")
    assert_reported(story.operation("a", "1.1"), "R11")


def held():
    return formed().installed("a", "1.1").installed("b", "1.1", start=2).add("held", hold=7)


def test_s12_raised_against_a_hold():
    assert_reported(held().decided("raised", "1.0", "1.1", "1.1: a, b"), "S12")


def test_s12_raised_when_the_hold_is_being_released():
    story = held().add("releasing", hold=0).decided("raised", "1.0", "1.1", "1.1: a, b")
    assert reported(story) == []


def test_s12_a_flush_forgets_a_hold_only_if_no_node_remembers_it():
    flushed = held().lost("store flushed").decided("raised", "1.0", "1.1", "1.1: a, b")
    assert reported(flushed) == []
    other = held().add("remembers", node="a", start=1, hold=6).lost("store flushed")
    assert reported(other.decided("raised", "1.0", "1.1", "1.1: a, b")) == []
    story = held().add("remembers", node="a", start=1, hold=7).lost("store flushed")
    assert_reported(story.decided("raised", "1.0", "1.1", "1.1: a, b"), "S12")


def test_s13_raised_past_a_node_that_was_not_asked():
    story = formed().installed("a", "1.1").installed("b", "1.1", start=2)
    assert_reported(story.decided("raised", "1.0", "1.1", "1.1: b"), "S13")


def test_s16_complete_while_a_node_is_behind():
    story = formed().installed("a", "1.1").installed("b", "1.1", start=2)
    story.decided("raised", "1.0", "1.1", "1.1: a, b").operates("a", "1.1")
    assert_reported(story.decided("completed", "1.1", "1.1", "1.1: a, b"), "S16")


def test_s16_complete_while_an_older_version_is_installed():
    story = upgraded().lost()
    assert_reported(story.decided("completed", "1.1", "1.1", "1.0: c; 1.1: a, b"), "S16")


def test_s16_complete_twice():
    assert_reported(upgraded().decided("completed", "1.1", "1.1", "1.1: a, b"), "S16")


def test_l1_an_upgrade_that_does_not_end():
    assert_reported(formed().add("stuck", why="nobody knows"), "L1")


def test_s18_a_node_that_operates_gets_other_software():
    assert_reported(formed().add("unsafe", node="a", start=1, version="1.1"), "S18")


def test_l2_a_node_that_does_not_stop():
    assert_reported(formed().add("hung", node="a", start=1), "L2")


def test_a_process_that_dies_of_a_defect():
    assert_reported(formed().add("ended", node="a", start=1, status=70), "crash")


@pytest.mark.parametrize("status", [0, -9, 3, 6])
def test_a_process_that_ends_as_it_may(status):
    assert reported(formed().add("ended", node="a", start=1, status=status)) == []


# --- the register ---------------------------------------------------------------------------------


def test_a_client_reads_an_old_acting_version_after_the_raise_had_settled():
    assert_reported(upgraded().asked("1.0"), "register")


def test_a_node_operates_at_an_old_version_after_the_raise_had_settled():
    assert_reported(upgraded().operation("a", "1.0"), "register")


def test_a_client_reads_a_version_before_it_was_raised():
    story = formed().asked("1.1").installed("a", "1.1").installed("b", "1.1", start=2)
    assert_reported(story.decided("raised", "1.0", "1.1", "1.1: a, b"), "register")


def test_a_client_reads_a_version_that_was_never_raised():
    assert_reported(formed().asked("7.0"), "register")


def test_a_read_that_began_before_the_raise_had_settled_may_be_old():
    story = upgraded()
    settled_s = next(line["at_s"] for line in story.lines if line.get("step") == "settled")
    story.add("asked", acting="1.0", began_s=settled_s + CLOCK_ERROR_S / 2)
    assert reported(story) == []


# --- values ---------------------------------------------------------------------------------------


def test_a_value_is_lost():
    verdict = judge(formed().wrote(1).wrote(2).read(1).sorted())
    assert verdict.values_lost == 1
    assert verdict.violations[0].startswith("value: ")


def test_a_failover_is_no_excuse_for_a_lost_value():
    assert_reported(formed().wrote(1).lost().read(0), "value")


def test_a_flush_voids_what_was_acknowledged_before():
    story = formed().wrote(1).lost("store flushed").read(0)
    assert reported(story) == []
    assert_reported(story.wrote(2).read(0), "value")


# --- the exemption --------------------------------------------------------------------------------


def cut_off(healed=False, forgotten=("a",), **first):
    story = formed(**first).add("cut", node="a").lost("store flushed", forgotten)
    if healed:
        story.add("healed", node="a")
        story.now_s += HEARS_WITHIN_S
    story.add("ended", node="b", start=2, status=-9).decided("doubted", "1.0", "1.0")
    return story.began("c", "1.2", lowest="1.1", start=3).operates("c", "1.1", start=3)


def test_a_forgotten_node_that_cannot_hear_is_exempt_and_counted():
    verdict = judge(cut_off().sorted())
    assert verdict.violations == []
    assert verdict.exemptions == 1


def test_a_node_that_two_things_cut_off_can_hear_when_both_are_over():
    story = cut_off(healed=True)
    first = next(line for line in story.lines if line["kind"] == "cut")
    story.lines.append(dict(first))
    assert reported(story) == []


def test_a_forgotten_node_that_can_hear_is_not_exempt():
    assert_reported(cut_off(healed=True), "S7")


def test_a_node_that_the_store_remembers_is_not_exempt():
    assert_reported(cut_off(forgotten=()), "S7")


def test_a_node_with_a_lease_is_not_exempt():
    assert_reported(cut_off(lease_s=2.0), "S7")


def test_a_node_whose_lease_has_ended_does_not_operate():
    story = formed(lease_s=2.0).add("lease", node="a", start=1, until_s=8.5)
    story.add("ended", node="b", start=2, status=-9).decided("doubted", "1.0", "1.0")
    story.began("c", "1.2", lowest="1.1", start=3)
    assert reported(story.operates("c", "1.1", start=3)) == []


def test_notes_that_were_converted_in_order_are_healthy():
    story = upgraded().noted(7).note(7, "1.0", "1.1").noted(8).note(9, "1.1")
    assert reported(story) == []


@pytest.mark.parametrize(
    ("story", "problem"),
    [
        (upgraded().noted(7).note(7, "1.0"), "S9: note k is in format 1.0"),
        (upgraded().noted(7).note(7, "1.0", "1.1", "1.1"), "S11: note k went through"),
        (upgraded().noted(7).note(7, "1.0", "1.2"), "S11: note k went through"),
        (upgraded().noted(7).note(6, "1.1"), "S11: note k is 6, and 7 was acknowledged"),
        (upgraded().noted(7).note(0), "S11: note k is 0, and 7 was acknowledged"),
    ],
)
def test_notes_that_are_not_are_reported(story, problem):
    (found,) = reported(story)
    assert found.startswith(problem)


def test_what_the_store_lost_is_no_fault_of_a_conversion():
    assert reported(upgraded().noted(7).lost().note(6, "1.1")) == []
    under_way = upgraded().lost().noted(7)
    under_way.lines[-1]["began_s"] = under_way.lines[-2]["at_s"] - 0.1
    assert reported(under_way.note(0)) == []
    story = upgraded().noted(7).note(0).lost()  # read before the loss was written down
    story.lines[-1]["began_s"] -= 2.0
    assert reported(story) == []


def test_a_data_version_that_the_store_forgot_is_about_nothing_any_more():
    story = upgraded().noted(7).lost()
    story.lines[-1]["began_s"] = story.lines[0]["at_s"]
    assert reported(story.note(7, "1.0")) == []
    before = upgraded().noted(7).lost()
    (found,) = reported(before.note(7, "1.0"))
    assert found.startswith("S9: note k is in format 1.0")
