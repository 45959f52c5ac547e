"""What is scraped: the state as numbers, and what somebody may have forgotten with its age."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from peerupgrade.core.record import Hold, Rollout
from peerupgrade.http.metrics import metrics_text
from peerupgrade.http.view import Ledger
from tests.http.fake_node import HOLD, NOW_MS, OLDER, RECORD, SNAPSHOT, FakeNode


def scraped(snapshot=SNAPSHOT, blockers=(OLDER,), live=True, now_ms=NOW_MS):
    """(name, labels) -> value."""
    ledger = Ledger(tuple(blockers), live, NOW_MS, "", snapshot)
    text = metrics_text(FakeNode().status(), ledger, now_ms).decode()
    return {
        (sample.name.removeprefix("peerupgrade_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def with_record(**changes):
    return replace(SNAPSHOT, record=replace(RECORD, **changes))


def test_versions_and_members_are_counted():
    found = scraped()
    assert found["cluster_info", ("acting", "1.0"), ("data", "1.0")] == 1
    assert found["members", ("standing", "serving")] == 2
    assert found["members", ("standing", "away")] == 0
    assert found["members_installed", ("installed", "2.0")] == 1
    assert found["store_answers",] == found["settled",] == 1


def test_a_hold_has_an_age_and_is_absent_once_it_is_released():
    found = scraped(with_record(hold=HOLD))
    assert found["age_seconds", ("by", "ann@desk"), ("what", "hold")] == 3600
    assert not [key for key in scraped(with_record(hold=None)) if ("what", "hold") in key]


def test_pauses_and_an_upgrade_have_ages_too():
    pause = Hold("bob", "busy", NOW_MS - 5000)
    rollout = Rollout("1.1", "2.0", "ann", "", NOW_MS, pause=pause)
    found = scraped(with_record(pause=pause, rollout=rollout))
    assert found["age_seconds", ("by", "bob"), ("what", "data_pause")] == 5
    assert found["age_seconds", ("by", "bob"), ("what", "rollout_pause")] == 5
    assert found["age_seconds", ("by", ""), ("what", "upgrade")] == 7200
    assert found["rollout_members", ("state", "waits")] == 1


def test_each_reason_has_the_age_of_the_oldest_of_its_code():
    older = replace(OLDER, subject="n9", since_ms=NOW_MS - 9000)
    newer = replace(OLDER, since_ms=NOW_MS - 1000)
    found = scraped(blockers=[newer, older])
    assert found["blocker_age_seconds", ("code", str(older.code))] == 9


def test_a_store_that_is_away_is_said_and_ages_go_on_by_the_nodes_own_clock():
    found = scraped(with_record(hold=HOLD), live=False, now_ms=NOW_MS + 60_000)
    assert found["store_answers",] == 0
    assert found["age_seconds", ("by", "ann@desk"), ("what", "hold")] == 3660


def test_without_a_word_from_the_store_only_the_node_is_shown():
    found = scraped(snapshot=None, blockers=(), live=False)
    assert {key[0] for key in found} == {"node_ready", "node_master", "node_info", "store_answers"}
