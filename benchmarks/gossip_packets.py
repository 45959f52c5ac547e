"""What one packet of gossip costs: 7 heartbeats, sealed."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.frame import Figures, Goal, Run, percentile
from peerupgrade.adapters.gossip_link import GossipLink
from peerupgrade.adapters.keyring_file import KeyringFile
from peerupgrade.core.gossip.packets import Ack, Digest, Heartbeat
from peerupgrade.core.versions import parse_version
from peerupgrade.wire.frames import Frames
from peerupgrade.wire.guards import SourceLimits
from peerupgrade.wire.keyring import Key, Keyring

ABOUT = "Sealing and opening a packet of 7 heartbeats, and sending it over loopback."
LASTS = "about 10 s"
TAKES = ()
GOALS = (
    Goal("seal_us_median", at_most=10.0),
    Goal("open_us_median", at_most=12.0),
    Goal("open_unseen_us_median", at_most=50.0),
    Goal("loopback_packets_per_s", at_least=10_000),
)

_BATCH = 200
_IN_FLIGHT = 100  # what any socket's buffer holds
_OLD, _NEW = parse_version("1.0"), parse_version("2.0")


def _packet(number: int) -> Ack:
    """The heartbeats of each number differ."""
    beats = tuple(
        Heartbeat(f"node-{n}", 1000 + n, number, _NEW, _OLD, f"10.0.0.{n}:7946", operating=_OLD)
        for n in range(7)
    )
    return Ack("node-1", Digest("c0ffee" * 5, 12, 3, 2**63 + number), number, "node-2", beats)


async def run(run: Run) -> Figures:
    """Measure."""
    batches = max(3, int(250 * run.scale))
    keyring = Keyring([Key.new()])
    sender, receiver = Frames("bench", keyring), Frames("bench", keyring)
    one = _packet(0)
    # What a node hears, it has mostly heard before: see `wire.packets`.
    known = [sender.stream(one) for _ in range(batches * _BATCH)]
    unseen = [sender.stream(_packet(number)) for number in range(batches * _BATCH)]
    figures = {
        "packet_bytes": float(len(known[0])),
        **_figures("seal", _timed(lambda _: sender.datagram(one), known)),
        **_figures("open", _timed(receiver.open, known)),
        **_figures("open_unseen", _timed(receiver.open, unseen)),
    }
    return {**figures, "loopback_packets_per_s": await _loopback(keyring, one, run.scale)}


def _timed(work: Callable[[bytes], object], frames: list[bytes]) -> list[float]:
    """Microseconds of the processor for one frame, in each batch."""
    return [_batch_us(work, frames[at : at + _BATCH]) for at in range(0, len(frames), _BATCH)]


def _batch_us(work: Callable[[bytes], object], frames: Iterable[bytes]) -> float:
    began_s = time.process_time()  # whatever else the machine does does not count
    for frame in frames:
        work(frame)
    return (time.process_time() - began_s) * 1e6 / _BATCH


def _figures(name: str, samples: list[float]) -> dict[str, float]:
    median, p95 = (percentile(samples, share) for share in (0.5, 0.95))
    return {f"{name}_us_median": median, f"{name}_us_p95": p95}


async def _loopback(keyring: Keyring, packet: Ack, scale: float) -> float:
    """Packets that go from one link to another and are heard, in one process."""
    count, heard, done = max(1000, int(100_000 * scale)), 0, asyncio.Event()

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard % _IN_FLIGHT == 0:
            done.set()

    with tempfile.TemporaryDirectory() as directory:
        file = KeyringFile(Path(directory) / "keyring")
        file.save(keyring)
        links = [
            await GossipLink.bind("127.0.0.1:0", "bench", keyring=str(file.path)) for _ in range(2)
        ]
        links[1]._limits = SourceLimits(per_s=1e9, burst=1e9)  # noqa: SLF001 - this is a flood
        await links[1].start(hear)
        began_s = time.perf_counter()
        while heard < count:
            done.clear()
            for _ in range(_IN_FLIGHT):
                links[0].send(links[1].address, packet)
            async with asyncio.timeout(10):
                await done.wait()
        took_s = time.perf_counter() - began_s
        for link in links:
            await link.aclose()
    return heard / took_s
