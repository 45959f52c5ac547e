"""Core types as text and bytes, and back."""

import struct
import zlib
from dataclasses import fields, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerupgrade.core.effects import Memory
from peerupgrade.core.record import (
    ClusterRecord,
    Completion,
    Downgrade,
    Health,
    HealthState,
    Hold,
    Member,
    Rollout,
    RolloutEnd,
    Standing,
    Tombstone,
    Turn,
    TurnStep,
    Upgrade,
    Work,
    WorkState,
)
from peerupgrade.core.requests import (
    Admit,
    Beat,
    Commit,
    DoubtHeard,
    ExcludedHeard,
    Freed,
    MemberHeard,
    RecordHeard,
)
from peerupgrade.core.strategy import OnUnhealthy, Strategy
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import DataError
from peerupgrade.wire import (
    heard_from_text,
    member_from_fields,
    member_to_fields,
    memory_from_bytes,
    memory_to_bytes,
    record_from_fields,
    record_to_fields,
    request_to_fields,
    tombstone_from_fields,
)

numbers = st.integers(0, 2**53)
texts = st.text(max_size=30)
some_texts = st.lists(texts, max_size=2).map(tuple)
versions = st.sampled_from(["1.0", "1.0.0", "1.10", "2.0rc1", "3!1.2.post4.dev5+l.6"]).map(
    parse_version
)
maybe_versions = st.none() | versions


def built(kind, **known):
    """Any value of a dataclass, by the types of its fields."""
    by_type = {"str": texts, "int": numbers, "Version": versions, "Version | None": maybe_versions}
    strategies = {f.name: by_type.get(f.type) for f in fields(kind)}
    return st.builds(kind, **(strategies | known))


works = built(Work, step=st.sampled_from(TurnStep), state=st.sampled_from(WorkState))
records = built(
    ClusterRecord,
    hold=st.none() | built(Hold),
    pause=st.none() | built(Hold),
    upgrade=st.none() | built(Upgrade),
    completion=st.none() | built(Completion),
    rollout=st.none()
    | built(
        Rollout,
        strategy=built(
            Strategy,
            one_zone=st.booleans(),
            windows=some_texts,
            on_unhealthy=st.sampled_from(OnUnhealthy),
        ),
        turns=st.lists(built(Turn), max_size=2).map(tuple),
        skipped=some_texts,
        failed=some_texts,
        returning=some_texts,
        pause=st.none() | built(Hold),
    ),
    downgrade=st.none() | built(Downgrade, formats=st.lists(texts, max_size=2).map(tuple)),
    rollout_end=st.none() | built(RolloutEnd, skipped=some_texts),
)
members = built(
    Member,
    standing=st.sampled_from(Standing),
    work=st.none() | works,
    health=st.none() | built(Health, state=st.sampled_from(HealthState)),
    labels=st.dictionaries(texts, texts, max_size=3),
    collections=st.dictionaries(texts, st.lists(texts, max_size=3).map(tuple), max_size=3),
    steps=st.lists(texts, max_size=3).map(tuple),
)
tombstones = built(Tombstone)
memories = built(
    Memory,
    record=st.none() | records,
    earlier=st.lists(texts, max_size=3).map(tuple),
    work=st.none() | works,
)

RECORD = ClusterRecord("g", acting=parse_version("1.10"), hold=Hold("ann", "why", 1))
MEMBER = Member("a", 1, "t", parse_version("2.0"), parse_version("1.0"))


def texts_of(value):
    """Texts are not told apart by ==, which calls 1.0 and 1.0.0 equal."""
    return [str(getattr(value, f.name)) for f in fields(value)]


class TestFields:
    @given(records)
    def test_a_record_comes_back(self, record):
        flat = record_to_fields(record)
        assert all(isinstance(text, str) for text in flat.values())
        again = record_from_fields(flat)
        assert again == record
        assert texts_of(again) == texts_of(record)

    @given(members)
    def test_a_member_comes_back(self, member):
        again = member_from_fields(member_to_fields(member))
        assert again == member
        assert texts_of(again) == texts_of(member)

    @given(tombstones)
    def test_a_tombstone_comes_back(self, tombstone):
        flat = {f.name: str(getattr(tombstone, f.name)) for f in fields(tombstone)}
        assert tombstone_from_fields(flat) == tombstone

    def test_a_version_takes_two_fields_and_only_its_text_is_read(self):
        flat = record_to_fields(RECORD)
        assert (flat["acting"], flat["acting_key"]) == ("1.10", RECORD.acting.key)
        assert (flat["data"], flat["data_key"]) == ("", "")
        assert record_from_fields(flat | {"acting_key": "nonsense"}) == RECORD

    def test_other_names_are_ignored_and_missing_ones_have_defaults(self):
        flat = record_to_fields(RECORD)
        del flat["bootstrap_expect"]
        assert record_from_fields(flat | {"_suspect": "x", "from_the_future": "y"}) == RECORD

    def test_numbers_in_a_hold_may_be_text(self):
        flat = record_to_fields(RECORD) | {"hold": '{"by":"ann","reason":"why","at_ms":"1"}'}
        assert record_from_fields(flat) == RECORD

    def test_half_a_surrogate_pair_becomes_a_question_mark(self):
        flat = member_to_fields(replace(MEMBER, failure="no such file: \udce9"))
        assert flat["failure"] == "no such file: ?"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("revision", "x"),
            ("revision", ""),
            ("acting", "not a version"),
            ("hold", "{"),
            ("hold", '{"by":1}'),
            ("hold", "[" * 100_000),
        ],
    )
    def test_an_unreadable_field_is_named(self, name, text):
        with pytest.raises(DataError, match=f"field '{name}' of a ClusterRecord cannot be read"):
            record_from_fields(record_to_fields(RECORD) | {name: text})

    def test_a_missing_field_is_named(self):
        flat = record_to_fields(RECORD)
        del flat["generation"]
        with pytest.raises(DataError, match="generation"):
            record_from_fields(flat)

    @pytest.mark.parametrize(("name", "text"), [("standing", "idle"), ("installed", "")])
    def test_an_unreadable_member_is_named(self, name, text):
        with pytest.raises(DataError, match=f"field '{name}' of a Member"):
            member_from_fields(member_to_fields(MEMBER) | {name: text})

    def test_a_request_keeps_its_record_apart(self):
        flat = request_to_fields(Commit("t", 1, 2, 3, RECORD, "raised", "in", repair=True))
        assert flat["record"] == record_to_fields(RECORD)
        assert (flat["epoch"], flat["repair"]) == ("1", "1")
        assert request_to_fields(Commit("t", 1, 2, 3, RECORD, "raised", "in"))["repair"] == ""

    def test_a_request_has_its_versions_with_their_keys(self):
        version = parse_version("1.10")
        flat = request_to_fields(Admit("a", "t", (), 0, "", 1, version, version))
        assert (flat["installed"], flat["installed_key"]) == ("1.10", version.key)


def message(kind, **rest):
    return msgspec.json.encode({"heard": kind, **rest})


class TestHeard:
    @given(records)
    def test_a_record(self, record):
        assert heard_from_text(message("record", record=record_to_fields(record))) == RecordHeard(
            record
        )

    @given(members, numbers)
    def test_a_member(self, member, revision):
        text = message(
            "member", id="a", member=member_to_fields(member), members_revision=str(revision)
        )
        assert heard_from_text(text) == MemberHeard("a", member, revision)

    @pytest.mark.parametrize(
        ("text", "heard"),
        [
            (message("member", id="a", member="", members_revision="7"), MemberHeard("a", None, 7)),
            (
                message(
                    "beat",
                    epoch="1",
                    record_epoch="2",
                    revision="3",
                    members_revision="4",
                    ttl_ms="5",
                ),
                Beat(1, 2, 3, 4, 5),
            ),
            (message("freed"), Freed()),
            (message("freed", since="the future"), Freed()),
            (message("excluded", id="a", incarnation="2"), ExcludedHeard("a", 2)),
            (message("doubt").decode(), DoubtHeard()),
        ],
    )
    def test_others(self, text, heard):
        assert heard_from_text(text) == heard

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hello",
            "{}",
            "[]",
            '{"heard":"party"}',
            '{"heard":{"record":"x"}}',
            '{"heard":"record"}',
            '{"heard":"record","record":""}',
            '{"heard":"record","record":"x"}',
            '{"heard":"record","record":{}}',
            '{"heard":"record","record":{"generation":"g","revision":"x"}}',
            '{"heard":"member","id":{},"member":"","members_revision":"1"}',
            '{"heard":"beat","epoch":1}',
            '{"heard":"beat","epoch":"1"}',
            "[" * 1_000_000,
            '{"heard":"freed","x":' + "[" * 1_000_000,
            b"\xff\xfe",
            b'{"heard":"freed","x":"\xff"}',
        ],
        ids=lambda text: repr(text[:30]),
    )
    def test_nonsense_is_nothing(self, text):
        assert heard_from_text(text) is None

    @given(st.binary(max_size=60) | st.text(max_size=60))
    def test_anything_else_is_nothing(self, text):
        assert heard_from_text(text) is None

    @given(st.recursive(st.none() | st.text() | st.floats() | st.booleans(), st.lists))
    def test_fields_of_any_type_are_survived(self, value):
        for kind in ("record", "member", "beat", "excluded"):
            fields_ = dict.fromkeys(
                ("record", "member", "id", "epoch", "revision", "members_revision"), value
            )
            heard_from_text(message(kind, **fields_))


class TestMemory:
    @given(memories)
    def test_comes_back(self, memory):
        assert memory_from_bytes(memory_to_bytes(memory)) == memory

    @given(memories, st.data())
    def test_any_cut_is_noticed(self, memory, data):
        full = memory_to_bytes(memory)
        with pytest.raises(DataError):
            memory_from_bytes(full[: data.draw(st.integers(0, len(full) - 1))])

    @given(memories, st.data())
    def test_any_flipped_bit_is_noticed(self, memory, data):
        full = bytearray(memory_to_bytes(memory))
        full[data.draw(st.integers(0, len(full) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(DataError):
            memory_from_bytes(bytes(full))

    @pytest.mark.parametrize(
        ("damage", "what"),
        [
            (lambda full: b"", "cut off within its header"),
            (lambda full: full[:-1], "bytes where"),
            (lambda full: full + b"x", "bytes where"),
            (lambda full: b"x" + full[1:], "not the memory of a node"),
            (lambda full: full[:4] + b"\x09" + full[5:], "format 9, this peerupgrade reads"),
            (lambda full: full[:-1] + b"\xc1", "checksum differs"),
        ],
    )
    def test_what_is_wrong_is_named(self, damage, what):
        with pytest.raises(DataError, match=what):
            memory_from_bytes(damage(memory_to_bytes(Memory(token="t", record=RECORD))))

    @pytest.mark.parametrize("payload", [b"\xc1", b"\x01", msgspec.msgpack.encode({"epoch": "x"})])
    def test_a_good_checksum_of_nonsense_is_no_memory(self, payload):
        header = struct.pack(">4sBII", b"PEER", 1, len(payload), zlib.crc32(payload))
        with pytest.raises(DataError):
            memory_from_bytes(header + payload)
