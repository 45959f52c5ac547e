"""Frames: packets as they travel, sealed or at least with a checksum.

Theory of operation: a frame is a header and a payload.

    0   magic       one byte
    1   version     of the format that its sender writes
    2   readable by versions of the format from this one on
    3   form        0 plain, 1 sealed

    plain:  4 checksum (4), 8 payload
    sealed: 4 id of the key (4), 8 nonce (12), 20 payload and tag, AES-256-GCM

The seal, and the checksum of a plain frame, also cover the header and the name of the cluster. A
frame of a newer release is read as long as that says it can be; what it added is ignored (see
`packets`).

A nonce is 8 random bytes, drawn when the process starts, and a number that counts its frames; when
the numbers are used up new bytes are drawn. So no key ever sees a nonce twice, which AES-GCM needs,
and the receiver can tell a frame that it has had. A plain frame has no such number: it is for a
machine that trusts its own loopback, where nobody can replay who could not also forge.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from dataclasses import replace

from peerupgrade.core.gossip.packets import Ack, Packet, Ping, PingFor, Spread, Table
from peerupgrade.errors import FrameError, FrameFault
from peerupgrade.wire.guards import ReplayGuard
from peerupgrade.wire.keyring import ID_BYTES, NONCE_BYTES, TAG_BYTES, Keyring
from peerupgrade.wire.packets import heartbeat_bytes, packet_from_bytes, packet_to_bytes

VERSION = 1
READABLE_BY = 1  # rises only when older releases would misread what this one writes
DATAGRAM_BYTES_MAX = 1_400  # fits an Ethernet frame, tunnels included
STREAM_BYTES_MAX = 4 * 1024 * 1024

_MAGIC = 0xB7
_PLAIN, _SEALED = 0, 1
_PLAIN_HEADER = bytes((_MAGIC, VERSION, READABLE_BY, _PLAIN))
_SEALED_HEADER = bytes((_MAGIC, VERSION, READABLE_BY, _SEALED))
_HEADER_BYTES = 4
_CHECKSUM = struct.Struct(">I")
_COUNTER = struct.Struct(">I")
_SESSION_BYTES = NONCE_BYTES - _COUNTER.size
_COUNTER_END = 2**32
_PLAIN_BYTES = _HEADER_BYTES + _CHECKSUM.size
_SEALED_BYTES = _HEADER_BYTES + ID_BYTES + NONCE_BYTES
_ARRAY_BYTES = 4  # a longer array of news has a longer head


class Frames:
    """Makes and reads the frames of one node.

    Args:
        cluster: frames of other clusters are refused, even under the same key.
        keyring: None: frames are plain, and sealed ones refused; else plain ones are refused.

    Attributes:
        keyring: may be replaced at any time.
    """

    def __init__(self, cluster: str, keyring: Keyring | None = None) -> None:
        self.keyring = keyring
        self._cluster = cluster.encode()
        self._replays = ReplayGuard()
        self._session = b""
        self._counter = _COUNTER_END

    def datagram(self, packet: Packet) -> bytes | None:
        """A packet as a frame that fits a datagram, with as much of its news as fits.

        What is left out, from the end on, will be told by other packets: that is what gossip is. A
        table is told as a whole.

        Returns:
            None if it needs a stream.

        Raises:
            FrameError: it cannot be encoded.
        """
        payload = packet_to_bytes(packet)
        spare = DATAGRAM_BYTES_MAX - self._overhead
        if len(payload) > spare:
            fitting = None if isinstance(packet, Table) else _fitting(packet, spare)
            if fitting is None:
                return None
            payload = packet_to_bytes(fitting)
        return self._seal(payload)

    def stream(self, packet: Packet) -> bytes:
        """A packet as a frame of any size that is read.

        Raises:
            FrameError: it is too large, or cannot be encoded.
        """
        payload = packet_to_bytes(packet)
        size = len(payload) + self._overhead
        if size > STREAM_BYTES_MAX:
            raise FrameError(
                FrameFault.TOO_LARGE,
                f"a {type(packet).__name__} takes {size:,} bytes, more than {STREAM_BYTES_MAX:,}",
            )
        return self._seal(payload)

    def open(self, frame: bytes, bytes_max: int = STREAM_BYTES_MAX) -> Packet:
        """The packet in a frame.

        Raises:
            FrameError: always this one, whatever the bytes; `fault` says why they were refused.
        """
        if len(frame) > bytes_max:
            raise FrameError(
                FrameFault.TOO_LARGE, f"a frame of {len(frame):,} bytes, more than {bytes_max:,}"
            )
        if len(frame) < _PLAIN_BYTES:
            raise FrameError(FrameFault.TOO_SHORT, f"{len(frame)} bytes are no frame")
        magic, version, readable_by, form = frame[:_HEADER_BYTES]
        if magic != _MAGIC or version < readable_by or form > _SEALED:
            raise FrameError(FrameFault.NOT_A_FRAME, f"it begins with {frame[:_HEADER_BYTES]!r}")
        if readable_by > VERSION:
            raise FrameError(
                FrameFault.NEWER_VERSION,
                f"a frame of version {version} can be read by version {readable_by} and newer,"
                f" this peerupgrade has version {VERSION}",
            )
        return packet_from_bytes(self._open_sealed(frame) if form else self._open_plain(frame))

    def _seal(self, payload: bytes) -> bytes:
        if self.keyring is None:
            checksum = _CHECKSUM.pack(self._checksum(_PLAIN_HEADER, payload))
            return _PLAIN_HEADER + checksum + payload
        key = self.keyring.sealing
        header = _SEALED_HEADER + key.id
        nonce = self._next_nonce()
        return header + nonce + key.seal(nonce, payload, header + self._cluster)

    def _open_plain(self, frame: bytes) -> bytes:
        if self.keyring is not None:
            raise FrameError(FrameFault.PLAIN, "a plain frame, and this node has a keyring")
        payload = frame[_PLAIN_BYTES:]
        (checksum,) = _CHECKSUM.unpack_from(frame, _HEADER_BYTES)
        if self._checksum(frame[:_HEADER_BYTES], payload) != checksum:
            raise FrameError(FrameFault.NOT_AUTHENTIC, "a frame is damaged, or of another cluster")
        return payload

    def _open_sealed(self, frame: bytes) -> bytes:
        header = frame[: _HEADER_BYTES + ID_BYTES]
        key = None if self.keyring is None else self.keyring.find(header[_HEADER_BYTES:])
        if key is None:
            raise FrameError(
                FrameFault.UNKNOWN_KEY, f"key {header[_HEADER_BYTES:].hex()} is not in the keyring"
            )
        if len(frame) < _SEALED_BYTES + TAG_BYTES:
            raise FrameError(FrameFault.TOO_SHORT, f"{len(frame)} bytes are no sealed frame")
        nonce = frame[len(header) : _SEALED_BYTES]
        payload = key.open(nonce, memoryview(frame)[_SEALED_BYTES:], header + self._cluster)
        (number,) = _COUNTER.unpack_from(nonce, _SESSION_BYTES)
        if not self._replays.first(nonce[:_SESSION_BYTES], number):
            raise FrameError(FrameFault.REPLAYED, "a frame came again, or much too late")
        return payload

    @property
    def _overhead(self) -> int:
        return _PLAIN_BYTES if self.keyring is None else _SEALED_BYTES + TAG_BYTES

    def _checksum(self, header: bytes, payload: bytes) -> int:
        return zlib.crc32(payload, zlib.crc32(header + self._cluster))

    def _next_nonce(self) -> bytes:
        if self._counter == _COUNTER_END:
            self._session, self._counter = secrets.token_bytes(_SESSION_BYTES), 0
        nonce = self._session + _COUNTER.pack(self._counter)
        self._counter += 1
        return nonce


def _fitting(packet: Ping | PingFor | Ack | Spread, spare: int) -> Packet | None:
    """The packet with the first of its news, in at most `spare` bytes."""
    spare -= len(packet_to_bytes(replace(packet, news=()))) + _ARRAY_BYTES
    if spare < 0:
        return None
    fitting = 0
    for beat in packet.news:
        spare -= heartbeat_bytes(beat)
        if spare < 0:
            break
        fitting += 1
    return replace(packet, news=packet.news[:fitting])
