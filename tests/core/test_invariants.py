"""Each invariant, broken: a check that cannot fail is none."""

from dataclasses import replace

import pytest

from peerupgrade.core import invariants
from peerupgrade.core.invariants import Operating
from peerupgrade.core.record import Standing
from tests.core.builders import V, member, record


def node(name, version, *, installed="2.0", lowest="1.0", start=("token", 1)):
    return Operating(name, start, V(installed), V(lowest), V(version))


ACTING_2 = record("2.0")
BROKEN = {
    "S1": lambda: invariants.acting_not_above_installed(
        ACTING_2, [node("a", "1.0", installed="1.0")]
    ),
    "S2": lambda: invariants.acting_not_back(record("2.0"), record("1.0")),
    "S2 forgotten": lambda: invariants.acting_not_back(record("2.0"), record(None)),
    "S2 unasked": lambda: invariants.acting_not_back(record("2.0"), record("1.0", downgrades=1)),
    "S6 newer": lambda: invariants.nothing_newer(record("1.0", downgrades=1), [V("2.0")]),
    "S3 above": lambda: invariants.within_supported([node("a", "3.0")]),
    "S3 below": lambda: invariants.within_supported([node("a", "1.0", lowest="1.1")]),
    "S4 epoch": lambda: invariants.given_once({("g", 7): "one"}, "g", 7, "other"),
    "S4 write": lambda: invariants.written_once({("g", 7, 3)}, "g", 7, 3),
    "S4 epoch back": lambda: invariants.rises((7, 3), 6, 4),
    "S4 revision again": lambda: invariants.rises((7, 3), 7, 3),
    "S5": lambda: invariants.node_not_back("a", (0, "2"), (0, "1"), store_lost=False),
    "S5 memory": lambda: invariants.remembered_first("a", V("2.0"), record("1.0")),
    "S5 no memory": lambda: invariants.remembered_first("a", V("2.0"), None),
    "S6": lambda: invariants.data_readable(V("1.0"), [node("a", "2.0", lowest="1.1")]),
    "S6 record": lambda: invariants.records_readable({V("1.0")}, [node("a", "2.0", lowest="1.1")]),
    "S6 newer record": lambda: invariants.records_readable({V("3.0")}, [node("a", "2.0")]),
    "S9": lambda: invariants.no_older_record(V("2.0"), {V("2.0"), V("1.0")}),
    "S11 twice": lambda: invariants.converted_once("k", [V("1.0"), V("2.0"), V("2.0")], V("2.0")),
    "S11 back": lambda: invariants.converted_once("k", [V("2.0"), V("1.0")], V("1.0")),
    "S11 tag": lambda: invariants.converted_once("k", [V("1.0")], V("2.0")),
    "S11 lost": lambda: invariants.no_write_lost("k", 6, 7),
    "S11 gone": lambda: invariants.no_write_lost("k", None, 7),
    "S7 newer": lambda: invariants.mutually_understood(
        [node("a", "2.0"), node("b", "1.0", installed="1.0")]
    ),
    "S7 older": lambda: invariants.mutually_understood(
        [node("a", "2.0", lowest="1.1"), node("b", "1.0")]
    ),
    "S8": lambda: invariants.excluded_stays_out(
        {("token", 4)}, [node("a", "1.0", start=("token", 4))]
    ),
    "S10": lambda: invariants.node_not_back("a", (1, "1"), (0, "2"), store_lost=True),
    "S12": lambda: invariants.hold_holds(True, V("1.0"), V("2.0")),
    "S13": lambda: invariants.nobody_passed(V("2.0"), {"a": V("1.0")}),
    "S14": lambda: invariants.nobody_locked_out(V("2.0"), {"a": V("1.0")}),
    "S14 away": lambda: invariants.nobody_away_passed([member("a", "2.0", standing=Standing.AWAY)]),
    "S15": lambda: invariants.within_budget({"a", "b"}, 1),
    "S16 version": lambda: invariants.complete_in_truth(ACTING_2, [member("a", "1.0")]),
    "S16 late": lambda: invariants.complete_in_truth(
        ACTING_2, [member("a", "2.0", operating_revision=1)]
    ),
    "S16 data": lambda: invariants.complete_in_truth(replace(ACTING_2, data=V("1.0")), []),
    "S16 twice": lambda: invariants.complete_once({"2.0@5"}, "2.0@5"),
}
HOLDS = {
    "S1": lambda: invariants.acting_not_above_installed(ACTING_2, [node("a", "1.0")]),
    "S2": lambda: invariants.acting_not_back(record("1.0"), record("1.0")),
    "S2 first": lambda: invariants.acting_not_back(None, record("1.0")),
    "S3": lambda: invariants.within_supported([node("a", "1.0"), node("b", "2.0")]),
    "S4 epoch": lambda: invariants.given_once({("g", 7): "one"}, "g", 7, "one"),
    "S4 write": lambda: invariants.written_once({("g", 7, 3)}, "other", 7, 3),
    "S4 revision": lambda: invariants.rises((7, 3), 7, 4),
    "S4 later epoch": lambda: invariants.rises((7, 3), 8, 1),
    "S5": lambda: invariants.node_not_back("a", (0, "2"), (1, "1"), store_lost=False),
    "S5 memory": lambda: invariants.remembered_first("a", V("2.0"), ACTING_2),
    "S6": lambda: invariants.data_readable(V("1.0"), [node("a", "2.0")]),
    "S6 record": lambda: invariants.records_readable({V("1.0"), V("2.0")}, [node("a", "2.0")]),
    "S9": lambda: invariants.no_older_record(V("1.0"), {V("2.0"), V("1.0")}),
    "S9 none": lambda: invariants.no_older_record(V("2.0"), set()),
    "S11": lambda: invariants.converted_once("k", [V("1.0"), V("2.0")], V("2.0")),
    "S11 same": lambda: invariants.no_write_lost("k", 7, 7),
    "S7": lambda: invariants.mutually_understood([node("a", "2.0"), node("b", "1.0")]),
    "S8": lambda: invariants.excluded_stays_out({("token", 4)}, [node("a", "1.0")]),
    "S12 no hold": lambda: invariants.hold_holds(False, V("1.0"), V("2.0")),
    "S12 no raise": lambda: invariants.hold_holds(True, V("1.0"), V("1.0")),
    "S13": lambda: invariants.nobody_passed(V("2.0"), {"a": V("2.0")}),
    "S14": lambda: invariants.nobody_locked_out(V("2.0"), {"a": V("2.0")}),
    "S14 nobody away": lambda: invariants.nobody_away_passed([member("a", "1.0")]),
    "S15": lambda: invariants.within_budget({"a"}, 1),
    "S16": lambda: invariants.complete_in_truth(
        ACTING_2,
        [member("a", "2.0"), member("b", "2.0", standing=Standing.STANDBY, operating_revision=0)],
    ),
    "S16 again": lambda: invariants.complete_once({"2.0@5"}, "2.0@9"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_may_never_happen_is_named(name):
    problem = BROKEN[name]()
    assert problem is not None
    assert problem.startswith(f"{name.split()[0]}: ")


@pytest.mark.parametrize("name", HOLDS)
def test_what_may_happen_is_no_problem(name):
    assert HOLDS[name]() is None
