"""`scripts/fuzz [--packets N] [--seed S]`: hostile packets at the real decoder, by the million.

Every frame is made by one of the cases below, which also says what may become of it. A run fails if
anything but a `FrameError` escapes, if a frame is heard that must be refused or refused for another
reason, or if memory goes on growing once the caches are full.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from peerupgrade.core.gossip.packets import Condition, Heartbeat
from peerupgrade.core.record import Standing
from peerupgrade.errors import FrameError, FrameFault
from peerupgrade.wire.frames import DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX, Frames
from peerupgrade.wire.keyring import Keyring
from peerupgrade.wire.packets import packet_to_bytes
from tests.core.builders import V
from tests.wire.packets import KEYRING, OTHER_KEY, PACKETS, RECORD, heartbeats_of

HEARD = "heard"
GROWTH_MIB_MAX = 16.0
WARM_UP = 0.25  # of a run; then the caches are full
REMEMBERED = 500  # frames that may be replayed: fewer than senders' sessions are kept
FORGETFUL = 50  # packets after which a case's sender is another process

_BOMBS = (
    b"\x91" * 1000,
    b"\x81\xa1x" * 400,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\x7f\xff\xff\xff\x00",
    b"\xdc\xff\xff" + b"\xc0" * 1100,
    b"\xd9\xff" + b"\xff" * 255,
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcf" + b"\xff" * 8,
    b"\xc1",
)
_LARGE_BOMBS = (b"\x91" * 30_000, b"\x81\xa1x" * 10_000, b"\xdd\x00\x00\xff\xff" + b"\xc0" * 30_000)
_VERSIONS = [V(text) for text in ("1.0", "1.0.0", "1.10", "2.0rc1", "3!1.2.post4.dev5+l.6")]
_BY_PAYLOAD = {HEARD, FrameFault.MALFORMED, FrameFault.UNKNOWN_KIND, FrameFault.TOO_SHORT}


@dataclass
class Outcomes:
    """What became of the frames of each case, and what must not have."""

    by_case: dict[str, Counter] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, case, outcome, allowed, frame):
        self.by_case.setdefault(case, Counter())[outcome] += 1
        if outcome not in allowed and len(self.wrong) < 10:
            self.wrong.append(f"{case}: {outcome}, by {frame[:200].hex()}")


class Attacker:
    """Makes frames; some with the right key, because insiders may be broken, too."""

    def __init__(self, seed):
        self.rng = Random(seed)
        self.heard = deque(maxlen=REMEMBERED)
        self.packets = [self._packet() for _ in range(400)]
        self.payloads = [packet_to_bytes(packet) for packet in self.packets]
        self.foreign = Frames("blue", Keyring([OTHER_KEY]))
        self.green = Frames("green", KEYRING)
        self.plain = Frames("blue")
        self._senders(0)

    def _senders(self, number):
        if number % FORGETFUL == 0:
            self.sealing = Frames("blue", KEYRING)

    def _packet(self):
        rng = self.rng
        packet = rng.choice(PACKETS)
        beats = tuple(self._heartbeat() for _ in range(rng.randrange(8)))
        name = "heartbeats" if packet is PACKETS[-1] else "news"
        changes = {name: beats, "sender": f"node-{rng.randrange(100)}"}
        if hasattr(packet, "record") and rng.random() < 0.5:
            changes["record"] = replace(RECORD, revision=rng.randrange(2**40))
        return replace(packet, **changes)

    def _heartbeat(self):
        rng = self.rng
        beat = Heartbeat(
            f"node-{rng.randrange(100)}",
            rng.randrange(2 ** rng.randrange(1, 60)),
            rng.randrange(2 ** rng.randrange(1, 60)),
            rng.choice(_VERSIONS),
            rng.choice(_VERSIONS),
            f"127.0.0.1:{rng.randrange(65536)}",
            rng.choice(list(Condition)),
            rng.choice([None, *_VERSIONS]),
            rng.choice(list(Standing)),
        )
        if rng.random() < 0.3:
            beat = replace(beat, by="x", zone="z", labels={"rack": str(rng.randrange(99))})
        return beat

    def frame(self, number):
        """A case, a frame of it, what may become of it, and the packet that must be heard."""
        self._senders(number)
        index = self.rng.randrange(len(self.packets))
        case = self.rng.choice(_CASES) if number else valid  # so that there is one to replay
        return case.__name__.replace("_", " "), *case(self, index)

    def sealed(self, index):
        return self.sealing._seal(self.payloads[index])

    def damaged(self, data):
        """Bytes changed, cut out, put in or doubled."""
        rng, data = self.rng, bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1:
                    data[at:at] = rng.randbytes(rng.randrange(1, 9))
                case 2:
                    del data[at : at + rng.randrange(1, 9)]
                case 3:
                    data[at:at] = data[at : at + 20]
                case _ if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
        return bytes(data)


# --- cases: each gives a frame, what may become of it, and the packet if it must be heard ---------


def valid(a, index):
    frame = a.sealed(index)
    a.heard.append(frame)
    return frame, {HEARD}, a.packets[index]


def replayed(a, index):
    return a.rng.choice(a.heard), {FrameFault.REPLAYED}, None


def truncated(a, index):
    frame = a.sealed(index)
    faults = {FrameFault.TOO_SHORT, FrameFault.NOT_AUTHENTIC, FrameFault.UNKNOWN_KEY}
    return frame[: a.rng.randrange(len(frame))], faults, None


def mutated_on_the_way(a, index):
    frame = a.sealed(index)
    changed = a.damaged(frame)
    if changed == frame:
        return changed, {HEARD}, a.packets[index]
    if len(changed) > DATAGRAM_BYTES_MAX:
        return changed, {FrameFault.TOO_LARGE}, None
    return changed, set(FrameFault) - {FrameFault.MALFORMED, FrameFault.REPLAYED}, None


def mutated_before_sealing(a, index):
    return _sealed(a, a.damaged(a.payloads[index]))


def spliced_before_sealing(a, index):
    one, two = a.payloads[index], a.rng.choice(a.payloads)
    return _sealed(a, one[: a.rng.randrange(len(one))] + two[a.rng.randrange(len(two)) :])


def bomb(a, index):
    payload = a.payloads[index]
    at = a.rng.randrange(1, len(payload) + 1)
    return _sealed(a, payload[:at] + a.rng.choice(_BOMBS))


def bomb_in_a_stream(a, index):
    payload = a.payloads[index]
    at = a.rng.randrange(1, len(payload) + 1)
    return a.sealing._seal(payload[:at] + a.rng.choice(_LARGE_BOMBS)), _BY_PAYLOAD, None


def record_of_nonsense(a, index):
    text = a.rng.choice((b"9" * 600, b"-1", b"[" * 500, b"{}", b'{"by":1}', b"\xff", b"1.0"))
    name = a.rng.choice((b"revision", b"acting", b"hold", b"upgrade", b"epoch", b"generation"))
    fields = b"\x81" + bytes((0xA0 + len(name),)) + name + _text(text)
    return _sealed(a, b"\x04\x95\xa1a\x94\xa1g\x01\x01\x01" + fields + b"\xa0\x90")


def oversized(a, index):
    payload = a.payloads[index] + bytes(a.rng.randrange(DATAGRAM_BYTES_MAX, 60_000))
    return a.sealing._seal(payload), {FrameFault.TOO_LARGE}, None


def wrong_key(a, index):
    return a.foreign._seal(a.payloads[index]), {FrameFault.UNKNOWN_KEY}, None


def wrong_cluster(a, index):
    return a.green._seal(a.payloads[index]), {FrameFault.NOT_AUTHENTIC}, None


def plain(a, index):
    return a.plain._seal(a.payloads[index]), {FrameFault.PLAIN}, None


def newer_version(a, index):
    frame = bytearray(a.sealed(index))
    frame[1:3] = bytes((a.rng.randrange(2, 256),)) * 2
    return bytes(frame), {FrameFault.NEWER_VERSION}, None


def noise(a, index):
    return a.rng.randbytes(a.rng.randrange(200)), set(FrameFault) - {FrameFault.MALFORMED}, None


_CASES = (
    *(valid, replayed, truncated, mutated_on_the_way, oversized, wrong_key, wrong_cluster),
    *(plain, newer_version, noise, record_of_nonsense, bomb, bomb),
    bomb_in_a_stream,
    *(mutated_before_sealing,) * 5,
    *(spliced_before_sealing,) * 3,
)


def _sealed(a, payload):
    frame = a.sealing._seal(payload)
    if len(frame) > DATAGRAM_BYTES_MAX:
        return frame, {FrameFault.TOO_LARGE}, None
    return frame, _BY_PAYLOAD, None


def _text(data):
    return b"\xda" + len(data).to_bytes(2, "big") + data


# --- a run ----------------------------------------------------------------------------------------


def run(count, seed=0, receiver=None):
    """The outcomes of so many packets, and by how many MiB memory grew after the warm-up."""
    attacker, outcomes = Attacker(seed), Outcomes()
    receiver = receiver or Frames("blue", KEYRING)
    warm = 0.0
    for number in range(count):
        case, frame, allowed, packet = attacker.frame(number)
        bytes_max = STREAM_BYTES_MAX if "stream" in case else DATAGRAM_BYTES_MAX
        outcomes.note(case, _outcome(receiver, frame, bytes_max, packet), allowed, frame)
        if number == int(count * WARM_UP):
            warm = resident_mib()
    return outcomes, resident_mib() - warm


def _outcome(receiver, frame, bytes_max, packet):
    try:
        heard = receiver.open(frame, bytes_max)
        heartbeats_of(heard)
    except FrameError as error:
        return error.fault
    except BaseException as error:  # noqa: BLE001 - these are what is looked for
        return f"escaped: {type(error).__name__}: {error}"
    if packet is not None and heard != packet:
        return "heard as another packet"
    return HEARD


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def table(outcomes):
    """One line for each case and outcome."""
    yield f"{'case':<24}{'outcome':<18}{'packets':>12}"
    for case, counts in sorted(outcomes.by_case.items()):
        for outcome, count in counts.most_common():
            yield f"{case:<24}{outcome:<18}{count:>12,}"
            case = ""  # noqa: PLW2901 - said once
    total = sum((Counter(counts) for counts in outcomes.by_case.values()), Counter())
    yield "-" * 54
    for outcome, count in total.most_common():
        yield f"{'all':<24}{outcome:<18}{count:>12,}"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--packets", type=int, default=5_000_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the same one makes the same packets")
    options = parser.parse_args(argv)
    began_s = time.monotonic()
    outcomes, growth_mib = run(options.packets, options.seed)
    took_s = time.monotonic() - began_s
    print(*table(outcomes), sep="\n")
    print(f"{options.packets:,} packets in {took_s:.0f} s, seed {options.seed}")
    print(f"memory grew by {growth_mib:.1f} MiB after the first {WARM_UP:.0%}")
    for wrong in outcomes.wrong:
        print(f"WRONG  {wrong}")
    if growth_mib > GROWTH_MIB_MAX:
        print(f"WRONG  memory grew by more than {GROWTH_MIB_MAX:.0f} MiB")
    return 1 if outcomes.wrong or growth_mib > GROWTH_MIB_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
