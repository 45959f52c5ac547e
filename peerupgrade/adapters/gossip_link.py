"""Gossip over UDP, and over TCP where a datagram is too small; both on one port number.

Theory of operation: a packet is one frame, in one datagram or alone on one connection, which the
sender opens, writes and closes. Nothing is repeated, nothing queued, nothing answered here: what is
lost is lost, and gossip lives with that. So `send` never waits and never fails; it counts.

The sockets are used without a transport of the event loop between: a datagram that the kernel does
not take at once is dropped rather than kept, one read never takes more than one datagram's
limit, and the two event loops that people use behave alike.

Strangers are held off as cheaply as possible: by the limits of sources, then by size, header and
seal. Connections are accepted only while there is a free place for one; until then they wait in the
kernel. Each place is given back after a few seconds, whatever its peer does.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

from peerupgrade.adapters.keyring_file import KeyringFile
from peerupgrade.core.gossip.packets import Packet
from peerupgrade.errors import ConfigError, FrameError, FrameFault
from peerupgrade.ports import SendFault, Traffic
from peerupgrade.settings import Settings, split_address
from peerupgrade.wire.frames import DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX, Frames
from peerupgrade.wire.guards import SourceLimits

_log = logging.getLogger(__name__)

Hear: TypeAlias = Callable[[Packet, str], None]
_SocketAddress: TypeAlias = tuple[str, int]

STREAM_S = 5.0  # for one stream, from the first byte to the last
STREAMS_MAX = 16  # at once, in each direction
STREAMS_OF_ONE_SOURCE_MAX = 4  # at once, unless it is this machine
RESOLVE_S = 5.0
KEYRING_S = 1.0  # between two looks at its file
_DATAGRAMS_AT_ONCE = 64  # then other tasks have their turn
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024  # everyone may answer at once
_CHUNK_BYTES = 64 * 1024
_BIND_ATTEMPTS = 32
_PAUSE_S = 0.1  # when the process has no more file descriptors
_MAPPED = "::ffff:"  # an IPv4 address on a socket of IPv6


@asynccontextmanager
async def gossip_link(settings: Settings) -> AsyncIterator[GossipLink | None]:
    """The transport of a node, bound, and closed at the end; None if it has no gossip.

    Raises:
        ConfigError: it cannot be bound, or its keyring cannot be read.
    """
    if not settings.gossip:
        yield None
        return
    link = await GossipLink.bind(
        settings.gossip, settings.cluster, keyring=settings.keyring, advertise=settings.advertise
    )
    try:
        yield link
    finally:
        await link.aclose()


async def resolve(join: Sequence[str], timeout_s: float = RESOLVE_S) -> list[str]:
    """Every address of every entry, as `send` takes them; those that nobody knows are logged.

    Args:
        join: `host:port`; a name may have several addresses.
        timeout_s: for all of them together.

    Raises:
        ConfigError: an entry has another form.
    """
    wanted = [split_address(entry) for entry in join]
    lookups = [asyncio.create_task(_look_up(host, port)) for host, port in wanted]
    if not lookups:
        return []
    try:
        _, late = await asyncio.wait(lookups, timeout=timeout_s)
    finally:
        for task in lookups:
            task.cancel()
    found: dict[str, None] = {}
    for entry, task in zip(join, lookups, strict=True):
        failure = "no answer in time" if task in late else task.exception()
        if failure is None:
            found |= dict.fromkeys(task.result())
        elif isinstance(failure, str | OSError | UnicodeError):  # the latter: no name at all
            _log.warning("%s cannot be joined: no address found (%s)", entry, failure)
        else:
            raise failure
    return list(found)


async def _look_up(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return [_to_text((str(address[0]), port)) for *_, address in found]


class GossipLink:
    """`ports.Transport` over UDP and TCP; made by `bind`."""

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        address: str,
        frames: Frames,
        keys: KeyringFile | None,
    ) -> None:
        self._udp, self._listener = sockets
        self._address = address
        self._frames = frames
        self._keys = keys
        self._traffic = Traffic()
        self._limits = SourceLimits()
        self._loop = asyncio.get_running_loop()
        self._hear: Hear | None = None
        self._places = asyncio.Semaphore(STREAMS_MAX)
        self._open: Counter[str] = Counter()  # streams of each source
        self._sending: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def bind(
        cls, gossip: str, cluster: str, *, keyring: str = "", advertise: str = ""
    ) -> GossipLink:
        """Take the port; nothing is heard before `start`.

        Args:
            gossip: `host:port` to listen on; port 0: any free one.
            cluster: frames of other clusters are refused.
            keyring: path of its file; empty: frames are plain.
            advertise: `host:port` by which others reach it; port 0: the one that was taken. Empty:
                as `gossip`.

        Raises:
            ConfigError: the address cannot be used, or the keyring cannot be read.
        """
        keys = KeyringFile(keyring) if keyring else None
        frames = Frames(cluster, keys.load() if keys else None)
        host, port = await _one_address("gossip", gossip)
        known, known_port = await _one_address("advertise", advertise) if advertise else (host, 0)
        udp, listener = _bind_both(host, port)
        address = _to_text((known, known_port or udp.getsockname()[1]))
        return cls((udp, listener), address, frames, keys)

    @property
    def address(self) -> str:
        """`host:port` by which others reach it."""
        return self._address

    @property
    def traffic(self) -> Traffic:
        """What it has done; read it whenever you like."""
        return self._traffic

    async def start(self, hear: Hear) -> None:
        """Hear from now on; again: let another one hear.

        Args:
            hear: called for each packet, with the `host:port` that it came from; for a stream that
                is not one that hears.
        """
        began, self._hear = self._hear is not None, hear
        if began:
            return
        self._loop.add_reader(self._udp, self._readable)
        self._spawn(self._tasks, self._accept())
        if self._keys is not None:
            self._spawn(self._tasks, self._watch(self._keys))

    async def aclose(self) -> None:
        """Hear and send nothing more; what is being sent on a stream is cut off."""
        self._hear = None
        if self._closed:
            return
        self._loop.remove_reader(self._udp)
        tasks = self._tasks | self._sending
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._udp.close()
        self._listener.close()

    @property
    def _closed(self) -> bool:
        return self._udp.fileno() < 0

    # --- sending ----------------------------------------------------------------------------------

    def send(self, to: str, packet: Packet) -> None:
        """Send without waiting; what cannot be sent is counted.

        Args:
            to: `host:port` with an IP address: a name would have to be looked up first.
            packet: in a datagram, if it fits; news that do not are left out, from the end on.
        """
        if self._closed:  # a last word of somebody who has not heard of it
            return
        try:
            target = _to_target(to, self._udp.family)
            datagram = self._frames.datagram(packet)
            if datagram is None:
                self._stream(target, self._frames.stream(packet))
                return
            self._udp.sendto(datagram, target)
        except ConfigError as error:
            self._not_sent(SendFault.NO_ADDRESS, to, error)
        except FrameError as error:
            self._not_sent(SendFault.UNENCODABLE, to, error)
        except BlockingIOError as error:
            self._not_sent(SendFault.FULL, to, error)
        except OSError as error:
            self._not_sent(SendFault.NO_ROUTE, to, error)
        else:
            self._count_sent(len(datagram))

    def _count_sent(self, size_bytes: int) -> None:
        self._traffic.sent += 1
        self._traffic.sent_bytes += size_bytes

    def _stream(self, target: _SocketAddress, frame: bytes) -> None:
        if len(self._sending) >= STREAMS_MAX:
            self._traffic.unsent[SendFault.BUSY] += 1
            return
        self._spawn(self._sending, self._send_stream(target, frame))

    async def _send_stream(self, target: _SocketAddress, frame: bytes) -> None:
        try:
            with socket.socket(self._udp.family, socket.SOCK_STREAM) as stream:
                stream.setblocking(False)
                async with asyncio.timeout(STREAM_S):
                    await self._loop.sock_connect(stream, target)
                    await self._loop.sock_sendall(stream, frame)
        except OSError as error:  # a time-out is one
            self._not_sent(SendFault.NO_STREAM, _to_text(target), error)
        else:
            self._traffic.sent += 1

    def _not_sent(self, fault: SendFault, to: str, error: Exception) -> None:
        self._traffic.unsent[fault] += 1
        level = logging.WARNING if self._traffic.unsent[fault] == 1 else logging.DEBUG
        _log.log(level, "gossip to %s was not sent: %s", to, str(error) or type(error).__name__)

    # --- hearing ----------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                # One byte more than the limit shows that it was exceeded.
                frame, source = self._udp.recvfrom(DATAGRAM_BYTES_MAX + 1)
            except BlockingIOError:
                return
            except OSError:  # a peer's machine says that nobody listens there
                continue
            if self._allowed(source):
                self._take(frame, source, DATAGRAM_BYTES_MAX)

    def _allowed(self, source: _SocketAddress) -> bool:
        if self._limits.allow(source[0], self._loop.time()):
            return True
        self._refuse(FrameError(FrameFault.TOO_MANY, "it sends too many"), source)
        return False

    def _take(self, frame: bytes, source: _SocketAddress, bytes_max: int) -> None:
        try:
            packet = self._frames.open(frame, bytes_max)
        except FrameError as error:
            self._refuse(error, source)
            return
        self._limits.know(source[0], self._loop.time())
        self._traffic.heard += 1
        if self._hear is not None:
            self._hear(packet, _to_text(source))

    def _refuse(self, error: FrameError, source: _SocketAddress) -> None:
        self._traffic.refused[error.fault] += 1
        level = logging.WARNING if self._traffic.refused[error.fault] == 1 else logging.DEBUG
        _log.log(level, "gossip from %s was refused: %s", _to_text(source), error)

    async def _accept(self) -> None:
        while True:
            await self._places.acquire()
            try:
                stream, source = await self._loop.sock_accept(self._listener)
            except OSError:  # a peer that gave up, or no more file descriptors
                self._places.release()
                await asyncio.sleep(_PAUSE_S)
                continue
            self._open[source[0]] += 1
            task = self._spawn(self._tasks, self._receive(stream, source))
            # Not at its end: one that is cancelled before it began has none.
            task.add_done_callback(partial(self._give_back, stream, source[0]))

    async def _receive(self, stream: socket.socket, source: _SocketAddress) -> None:
        host = source[0]
        try:
            if self._open[host] > STREAMS_OF_ONE_SOURCE_MAX and not _is_here(host):
                self._refuse(FrameError(FrameFault.TOO_MANY, "it opens too many streams"), source)
            elif self._allowed(source):
                frame = await self._read_frame(stream)
                # Not from here: what goes wrong while it is heard is no fault of the stream.
                self._loop.call_soon(self._take, frame, source, STREAM_BYTES_MAX)
        except FrameError as error:
            self._refuse(error, source)

    def _give_back(self, stream: socket.socket, host: str, _: asyncio.Task[None]) -> None:
        stream.close()
        self._places.release()
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]

    async def _read_frame(self, stream: socket.socket) -> bytes:
        """Everything until the peer closes; it announces no length that could be believed."""
        frame = bytearray()
        try:
            async with asyncio.timeout(STREAM_S):
                while chunk := await self._loop.sock_recv(stream, _CHUNK_BYTES):
                    frame += chunk
                    if len(frame) > STREAM_BYTES_MAX:
                        raise FrameError(FrameFault.TOO_LARGE, "a stream does not end")
        except TimeoutError:
            raise FrameError(FrameFault.TOO_SLOW, f"no frame within {STREAM_S:g} s") from None
        except OSError as error:
            raise FrameError(FrameFault.TOO_SHORT, f"a stream broke ({error})") from error
        return bytes(frame)

    # --- keys and tasks ---------------------------------------------------------------------------

    async def _watch(self, keys: KeyringFile) -> None:
        while True:
            await asyncio.sleep(KEYRING_S)
            keyring = keys.changed()
            if keyring is not None:
                self._frames.keyring = keyring

    def _spawn(
        self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task


# --- addresses and sockets ------------------------------------------------------------------------


async def _one_address(what: str, address: str) -> _SocketAddress:
    """The IP address and port; of a name's addresses the first."""
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:  # the latter: it cannot be a name
        raise ConfigError(
            f"{what} is {address}, which has no address ({str(error) or 'no answer in time'})",
            hint="give an IP address and a port",
        ) from error
    return str(found[0][4][0]), port


def _bind_both(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Sockets of UDP and TCP on one port number."""
    for attempt in range(_BIND_ATTEMPTS):
        listener = _bound(socket.SOCK_STREAM, host, port)
        try:
            udp = _bound(socket.SOCK_DGRAM, host, listener.getsockname()[1])
        except ConfigError as error:
            listener.close()
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno
            if port or taken != errno.EADDRINUSE or attempt == _BIND_ATTEMPTS - 1:
                raise
            continue  # somebody has that one for UDP
        listener.listen(128)
        with suppress(OSError):  # some machines allow less
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        return udp, listener
    raise AssertionError("unreachable")


def _bound(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    family = _family(ip_address(host))
    bound = socket.socket(family, kind)
    try:
        bound.setblocking(False)
        if kind is socket.SOCK_STREAM:
            # Streams of an earlier process may linger; a second listener is refused all the same.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is for both
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"gossip cannot listen on {_to_text((host, port))} ({error.strerror})",
            hint="give an address of this machine and a port that is free, or port 0",
        ) from error
    return bound


def _family(ip: IPv4Address | IPv6Address) -> socket.AddressFamily:
    return socket.AF_INET if ip.version == 4 else socket.AF_INET6


@lru_cache(maxsize=4096)
def _to_target(address: str, family: socket.AddressFamily) -> _SocketAddress:
    """As the socket takes it.

    Raises:
        ConfigError: it is no `host:port`, or the host is a name.
        OSError: a socket of this family does not reach it.
    """
    host, port = split_address(address)
    try:
        ip = ip_address(host)
    except ValueError:
        raise ConfigError(f"{host!r} is no IP address", hint="resolve names before") from None
    if _family(ip) is family:
        return str(ip), port
    if family is socket.AF_INET6:
        return f"{_MAPPED}{ip}", port
    raise OSError(errno.EAFNOSUPPORT, f"{address} is IPv6, and gossip listens on IPv4")


def _to_text(address: tuple[Any, ...]) -> str:
    host, port = address[0].removeprefix(_MAPPED), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_here(host: str) -> bool:
    return ip_address(host.removeprefix(_MAPPED)).is_loopback
