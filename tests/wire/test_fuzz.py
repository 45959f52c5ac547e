"""The fuzz finds nothing here, and what it is there to find."""

import pytest

from peerupgrade.errors import FrameFault
from peerupgrade.wire import frames
from peerupgrade.wire.frames import Frames
from tests.wire import fuzz
from tests.wire.packets import KEYRING, PACKETS

BEYOND_THE_DECODER = {FrameFault.TOO_MANY, FrameFault.TOO_SLOW}


def test_only_the_one_error_escapes_and_every_fault_is_met():
    outcomes, _ = fuzz.run(20_000, seed=1)
    assert outcomes.wrong == []
    met = {outcome for counts in outcomes.by_case.values() for outcome in counts}
    assert met == (set(FrameFault) - BEYOND_THE_DECODER) | {fuzz.HEARD}


def test_the_same_seed_makes_the_same_packets():
    def made(seed):
        attacker = fuzz.Attacker(seed)
        return attacker.packets, [attacker.frame(n)[0] for n in range(100)]

    assert made(3) == made(3) != made(4)


def breaks_on_a_record(monkeypatch):
    read = frames.packet_from_bytes

    def broken(payload):
        if payload[:1] == b"\x04":
            raise KeyError("record")
        return read(payload)

    monkeypatch.setattr(frames, "packet_from_bytes", broken)
    return "escaped: KeyError"


def forgets_what_it_heard(monkeypatch):
    monkeypatch.setattr(frames.ReplayGuard, "first", lambda *_: True)
    return "replayed: heard"


def believes_every_frame(monkeypatch):
    monkeypatch.setattr(Frames, "_open_plain", lambda _, frame: frame[8:])
    return "plain: heard"


def believes_every_cluster(monkeypatch):
    make = Frames.__init__
    monkeypatch.setattr(Frames, "__init__", lambda self, _, keyring=None: make(self, "x", keyring))
    return "wrong cluster: heard"


def mixes_packets_up(monkeypatch):
    monkeypatch.setattr(frames, "packet_from_bytes", lambda _: PACKETS[0])
    return "valid: heard as another packet"


@pytest.mark.parametrize(
    "defect",
    [
        breaks_on_a_record,
        forgets_what_it_heard,
        believes_every_frame,
        believes_every_cluster,
        mixes_packets_up,
    ],
)
def test_a_defect_is_found_and_named(monkeypatch, capsys, defect):
    said = defect(monkeypatch)
    assert fuzz.main(["--packets", "500"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert any(said in line for line in wrong)


def test_memory_that_grows_is_found():
    kept = []

    class Leaky(Frames):
        def open(self, frame, bytes_max):
            kept.append(b"x" * 20_000)  # written to: pages of zeros would not be resident
            return super().open(frame, bytes_max)

    _, growth_mib = fuzz.run(5_000, receiver=Leaky("blue", KEYRING))
    assert growth_mib > fuzz.GROWTH_MIB_MAX


def test_a_run_says_what_was_refused_and_why(capsys):
    assert fuzz.main(["--packets", "3000", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "wrong key               unknown_key" in out
    assert "3,000 packets in" in out
    assert "memory grew by" in out
