"""Reaching a Redis: its address, a connection to its primary, and what its errors mean.

Store, bus and lock adapters all connect through here. What they get is a plain client of one
server, and nothing in it retries: whether a command may be sent twice is known only by whoever
sent it. A failover is noticed as an error; connecting again then asks anew who the primary is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from peerupgrade.errors import ConfigError, PeerUpgradeError, UnavailableError

Kind = Literal["tcp", "unix", "sentinel", "cluster"]
Address = tuple[str, int]

OLDEST_VERSION = (6, 2)

_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("tcp", False),
    "rediss": ("tcp", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORT = 6379
_SENTINEL_PORT = 26379
_MAX_HOPS = 5  # redirections followed before a cluster is taken to be confused
_DEAD_PEER_S = 3
# What servers show of a client. The library's default reads its own package's files each time.
_WHO = DriverInfo("peerupgrade", lib_version=None)


@dataclass(frozen=True)
class StoreUrl:
    """Where a store is. Its text never shows the password."""

    kind: Kind
    tls: bool = False
    hosts: tuple[Address, ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def redacted(self) -> str:
        """The URL without its password, to show and to log."""
        scheme = next(name for name, form in _SCHEMES.items() if form == (self.kind, self.tls))
        secret = f"{quote(self.username, safe='')}:***@" if self.password else ""
        hosts = ",".join(_host_port(address) for address in self.hosts)
        match self.kind:
            case "tcp":
                rest = f"/{self.db}"
            case "unix":
                rest = quote(self.path) + (f"?db={self.db}" if self.db else "")
            case "sentinel":
                rest = f"/{quote(self.service, safe='')}/{self.db}"
            case "cluster":
                rest = ""
        return f"{scheme}://{secret}{hosts}{rest}"

    def __str__(self) -> str:
        return self.redacted


def parse_store_url(url: str) -> StoreUrl:
    """Reads the URL of a store.

    Accepted are ``redis://[[user]:password@]host[:port][/db]``, ``unix://[:password@]/path[?db=0]``,
    ``redis+sentinel://[:password@]host[:port],…/service[/db]``, ``redis+cluster://host[:port],…``,
    and with TLS ``rediss://``, ``rediss+sentinel://``, ``rediss+cluster://``.

    Raises:
        ConfigError: it is none of these. The message never repeats parts of the URL that could
            be a misplaced password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigError(
            "the store URL has an unknown scheme" if separator else "the store URL has no scheme",
            hint=f"begin it with one of {', '.join(f'{name}://' for name in _SCHEMES)}",
        )
    kind, tls = _SCHEMES[scheme]
    try:
        parts = urlsplit(url)
    except ValueError as error:  # it says what about the brackets is wrong
        raise _bad(scheme, f"cannot be read ({error})", "write an IPv6 address as [::1]") from error
    if parts.fragment or "#" in url:
        raise _bad(scheme, "contains '#'", "write %23 for a '#' in a password")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    username, password = _credentials(scheme, userinfo)
    base = StoreUrl(kind, tls, username=username, password=password)
    option_db = _db_option(scheme, parts, allowed=kind in ("tcp", "unix"))
    if kind == "unix":
        if hosts or not parts.path.startswith("/") or parts.path == "/":
            raise _bad(scheme, "has no absolute path", "write unix:///path/of/the.sock")
        return replace(base, path=unquote(parts.path), db=option_db or 0)
    service, path_db = _service_and_db(scheme, kind, parts.path)
    if None not in (option_db, path_db):
        raise _bad(scheme, "names the database twice", "leave out /db or ?db=")
    return replace(
        base,
        hosts=_hosts(scheme, kind, hosts),
        service=service,
        db=option_db or path_db or 0,
    )


def _bad(scheme: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"the store URL ({scheme}://...) {what}", hint=hint)


def _credentials(scheme: str, userinfo: str) -> tuple[str, str]:
    username, _, password = userinfo.partition(":")
    if userinfo and not password:
        raise _bad(
            scheme,
            "has a user name but no password before the '@'",
            "write ':password@' for a password alone, 'user:password@' for both",
        )
    return unquote(username), unquote(password)


def _db_option(scheme: str, parts: SplitResult, *, allowed: bool) -> int | None:
    options = parse_qsl(parts.query, keep_blank_values=True)
    if not options:
        return None
    if not allowed or [name for name, _ in options] != ["db"]:
        only = "leave them out" if not allowed else "only ?db=NUMBER is known"
        raise _bad(
            scheme, "has unknown options after '?'", f"{only}; write %3F for a '?' in a name"
        )
    return _db(scheme, options[0][1])


def _db(scheme: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _bad(
            scheme,
            "has a database that is not a number",
            "write a number such as 0; write %2F for a '/' in a password",
        )
    return int(text)


def _service_and_db(scheme: str, kind: Kind, path: str) -> tuple[str, int | None]:
    steps = path.removeprefix("/").split("/") if path.strip("/") else []
    if kind == "cluster":
        if steps:
            raise _bad(scheme, "names a database", "leave it out, a Redis Cluster has only one")
        return "", None
    service = ""
    if kind == "sentinel":
        if not steps or not steps[0]:
            raise _bad(
                scheme,
                "does not name the service that the Sentinels watch",
                "end it with /SERVICE, the name in 'sentinel monitor SERVICE ...'",
            )
        service = unquote(steps.pop(0))
    if len(steps) > 1:
        raise _bad(
            scheme,
            "has too long a path",
            "end it with the number of the database; write %2F for a '/' in a password",
        )
    return service, _db(scheme, steps[0]) if steps else None


def _hosts(scheme: str, kind: Kind, text: str) -> tuple[Address, ...]:
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    items = text.split(",") if text else []
    if not items:
        raise _bad(scheme, "has no host", f"write {scheme}://HOST:PORT")
    if kind == "tcp" and len(items) > 1:
        raise _bad(
            scheme,
            "has more than one host",
            "write redis+sentinel:// or redis+cluster:// if that is what they are",
        )
    return tuple(_address(scheme, item, default, place) for place, item in enumerate(items, 1))


def _address(scheme: str, text: str, default_port: int, place: int) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < int(match[3] or default_port) < 65536:
        # Not repeated: it may be a password whose '@' was forgotten.
        raise _bad(
            scheme,
            f"has a host and port that cannot be read (number {place})",
            "write HOST:PORT with a port from 1 to 65535, an IPv6 address as [::1]",
        )
    return unquote(match[1] or match[2]), int(match[3] or default_port)


def _host_port(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- connecting ----------------------------------------------------------------------------------


class RedisLink:
    """Makes clients of the server that holds the keys of ``slot_key``'s slot, as primary."""

    def __init__(self, url: StoreUrl, *, timeout_s: float, slot_key: str) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._slot_key = slot_key

    async def connect(self, *, timeout_s: float | None = None) -> Redis:
        """A client of the primary with one connection, its password accepted.

        It stays with that server: after an error close it and connect anew, which finds the new
        primary after a failover.

        Args:
            timeout_s: bounds the whole of connecting, and each command later.

        Raises:
            UnavailableError: nothing there can serve now.
            ConfigError: it will not get better by waiting (password, kind of server).
        """
        within_s = self.timeout_s if timeout_s is None else timeout_s
        with redis_errors(self.url, "connect"):
            async with asyncio.timeout(within_s):
                if self.url.kind == "sentinel":
                    return await self._connect_by_sentinel(within_s)
                address = self.url.hosts[0] if self.url.hosts else None
                if self.url.kind == "cluster":
                    address = await self._find_slot_owner(within_s)
                client = self._client(address, within_s)
                await _closed_on_error(client, client.ping())
                return client

    async def _connect_by_sentinel(self, within_s: float) -> Redis:
        address = await self._ask_sentinels(within_s / 2)
        client = self._client(address, within_s)
        role = await _closed_on_error(client, client.role())
        if role[0] not in ("master", b"master"):
            await client.aclose()
            raise UnavailableError(
                f"cannot connect: {_host_port(address)}, which the Sentinels of {self.url} call "
                "the primary, is not one",
                hint="try again, a failover is probably under way",
            )
        return client

    async def _ask_sentinels(self, within_s: float) -> Address:
        """The primary's address: the newest that a majority of the Sentinels has heard of.

        One alone may have been cut off and still name the old primary. Half of the time is for
        them, the other half for the primary.
        """
        tasks = [asyncio.create_task(self._ask_sentinel(a, within_s)) for a in self.url.hosts]
        answers: list[tuple[int, Address]] = []
        errors: list[Exception] = []
        try:
            for done in asyncio.as_completed(tasks):
                try:
                    answers.append(await done)
                except (RedisError, OSError) as error:
                    errors.append(error)
                if len(answers) > len(tasks) // 2:
                    break
        finally:
            await _cancel(tasks)
        if answers:
            return max(answers)[1]
        unknown = [e for e in errors if "No such master" in str(e)]
        if unknown:
            raise ConfigError(
                f"cannot connect: the Sentinels of {self.url} do not watch a service "
                f"{self.url.service!r}",
                hint="name the one in their 'sentinel monitor SERVICE ...'",
            ) from unknown[0]
        raise errors[0]

    async def _ask_sentinel(self, address: Address, within_s: float) -> tuple[int, Address]:
        try:
            return await self._ask_sentinel_as("", address, within_s)
        except AuthenticationError:
            # Sentinels often have no password where the servers have one, and refuse any.
            return await self._ask_sentinel_as(self.url.password, address, within_s)

    async def _ask_sentinel_as(
        self, password: str, address: Address, within_s: float
    ) -> tuple[int, Address]:
        client = self._client(address, within_s, password=password, db=0)
        async with contextlib.aclosing(client), asyncio.timeout(within_s):
            state = await client.sentinel_master(self.url.service)
            assert isinstance(state, dict)
            return int(state["config-epoch"]), (str(state["ip"]), int(state["port"]))

    async def _find_slot_owner(self, within_s: float) -> Address:
        """The cluster's node that serves the slot, by whichever node leads to it first."""
        tasks = [asyncio.create_task(self._follow(a, within_s)) for a in self.url.hosts]
        first_error: Exception | None = None
        try:
            for done in asyncio.as_completed(tasks):
                try:
                    return await done
                except (RedisError, OSError, PeerUpgradeError) as error:
                    first_error = first_error or error
        finally:
            await _cancel(tasks)
        assert first_error is not None
        raise first_error

    async def _follow(self, address: Address, within_s: float) -> Address:
        """Asks for the key and goes where the answers point, until a node serves it itself."""
        for _ in range(_MAX_HOPS):
            async with contextlib.aclosing(self._client(address, within_s)) as client:
                try:
                    await client.exists(self._slot_key)
                except MovedError as moved:
                    # A cluster that does not know its own host names sends an empty one or '?'.
                    host = moved.host if moved.host not in ("", "?") else address[0]
                    address = (host, moved.port)
                else:
                    return address
        raise UnavailableError(
            f"cannot connect: the nodes of {self.url} send one to another for the same key",
            hint="try again; if it stays so, compare their CLUSTER NODES",
        )

    def _client(
        self,
        address: Address | None,
        timeout_s: float,
        *,
        password: str | None = None,
        db: int | None = None,
    ) -> Redis:
        url = self.url
        password = url.password if password is None else password
        options: dict[str, Any] = {
            "username": (url.username or None) if password else None,
            "password": password or None,
            "db": url.db if db is None else db,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "health_check_interval": 0,
            "decode_responses": True,
            "protocol": 2,
            # The library's default sends a command up to eleven times.
            "retry": Retry(NoBackoff(), 0),
            "driver_info": _WHO,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if address is None:
            options |= {"connection_class": UnixDomainSocketConnection, "path": url.path}
        else:
            options |= {
                "connection_class": SSLConnection if url.tls else Connection,
                "host": address[0],
                "port": address[1],
                "socket_keepalive": True,
                "socket_keepalive_options": _keepalive_options(),
            }
        pool = ConnectionPool(max_connections=1, **options)
        client = Redis(connection_pool=pool, single_connection_client=True)
        client.auto_close_connection_pool = True  # as Redis.from_pool, which takes no `single`
        return client


async def _closed_on_error(client: Redis, command: Awaitable[Any]) -> Any:
    try:
        return await command
    except BaseException:
        await client.aclose()
        raise


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    # Waited for, so that their connections are closed; their results no longer matter.
    await asyncio.gather(*tasks, return_exceptions=True)


def _keepalive_options() -> dict[int, int]:
    """Finds a peer that vanished in seconds instead of the systems' minutes to hours."""
    wanted = {
        "TCP_KEEPIDLE": 1,
        "TCP_KEEPINTVL": 1,
        "TCP_KEEPCNT": _DEAD_PEER_S - 1,
        "TCP_USER_TIMEOUT": _DEAD_PEER_S * 1000,  # milliseconds
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


# --- errors --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    error: type[PeerUpgradeError]
    what: str
    hint: str


_PASSWORD = _Meaning(
    ConfigError,
    "refused the user name or password",
    "correct the password in the URL ('redis://:password@host'), with %-escapes for / ? # @",
)
_NO_COMMAND = _Meaning(
    ConfigError,
    "does not know a command that is needed",
    "use Redis or Valkey 6.2 or newer without renamed commands",
)
_MOVED_CLUSTER = _Meaning(
    UnavailableError, "moved the keys to another node of the cluster", "connect again"
)
_MIGRATING = _Meaning(
    UnavailableError, "is moving the keys to another node of the cluster", "wait, then try again"
)
_CLUSTER_DOWN = _Meaning(
    UnavailableError,
    "says that its Redis Cluster is down",
    "look at CLUSTER INFO and bring the missing nodes back",
)

# By the word that a reply begins with.
_BY_CODE: Mapping[str, _Meaning] = {
    "WRONGPASS": _PASSWORD,
    "NOAUTH": _Meaning(
        ConfigError,
        "asks for a password and the URL has none",
        "put it into the URL: 'redis://:password@host'",
    ),
    "NOPERM": _Meaning(
        ConfigError,
        "does not permit this user what is needed",
        "give the user the rights to all commands, keys and channels of this cluster",
    ),
    "READONLY": _Meaning(
        UnavailableError,
        "is a read-only replica",
        "give the URL of the primary, or of its Sentinels; after a failover try again",
    ),
    "LOADING": _Meaning(
        UnavailableError, "is still loading its data", "wait until it has, then try again"
    ),
    "MASTERDOWN": _Meaning(
        UnavailableError,
        "is a replica that has lost its primary",
        "give the URL of the primary, or of its Sentinels; after a failover try again",
    ),
    "CLUSTERDOWN": _CLUSTER_DOWN,
    "MOVED": _Meaning(
        ConfigError,
        "belongs to a Redis Cluster and another node has these keys",
        "write redis+cluster:// instead of redis://",
    ),
    "ASK": _MIGRATING,
    "TRYAGAIN": _MIGRATING,
    "NOREPLICAS": _Meaning(
        UnavailableError,
        "has fewer replicas in good state than its min-replicas-to-write",
        "bring the replicas back, then try again",
    ),
    "OOM": _Meaning(
        UnavailableError,
        "is out of memory (maxmemory)",
        "raise its maxmemory or remove other data, then try again",
    ),
    "BUSY": _Meaning(
        UnavailableError,
        "is busy with a script that runs for long",
        "wait, or end the script with SCRIPT KILL",
    ),
    "MISCONF": _Meaning(
        UnavailableError,
        "refuses writes because it cannot write to its disk",
        "free or mend its disk (its log says why), then try again",
    ),
}
# By what a reply without such a word contains.
_BY_TEXT: Mapping[str, _Meaning] = {
    "unknown command": _NO_COMMAND,
    "unknown subcommand": _NO_COMMAND,
    "unknown redis command": _NO_COMMAND,
    "without any password configured": _Meaning(
        ConfigError,
        "has no password, but the URL gives one",
        "leave the password out of the URL, or set one on the server",
    ),
    "db index is out of range": _Meaning(
        ConfigError, "has no database of that number", "correct the database in the URL"
    ),
    "select is not allowed in cluster mode": _Meaning(
        ConfigError, "has only database 0", "leave the database out of the URL"
    ),
    "max number of clients reached": _Meaning(
        UnavailableError,
        "has reached its limit of clients (maxclients)",
        "close other clients or raise its maxclients",
    ),
}
_SLOW = _Meaning(
    UnavailableError,
    "did not answer in time",
    "see whether the server hangs or the network drops packets, then try again",
)
# By the operating system's error, most special first.
_BY_CAUSE: tuple[tuple[type[BaseException], _Meaning], ...] = (
    (
        ssl.SSLError,
        _Meaning(
            ConfigError,
            "failed the TLS handshake",
            "use rediss:// only with a TLS port, and name a private authority in SSL_CERT_FILE",
        ),
    ),
    (
        socket.gaierror,
        _Meaning(
            UnavailableError,
            "has a host name that cannot be resolved",
            "correct the name, or mend the name service",
        ),
    ),
    (
        ConnectionRefusedError,
        _Meaning(
            UnavailableError,
            "refused the connection",
            "start the server there, or correct the address",
        ),
    ),
    (
        FileNotFoundError,
        _Meaning(
            UnavailableError,
            "has no socket at that path",
            "start the server there, or correct the path",
        ),
    ),
    (
        PermissionError,
        _Meaning(
            ConfigError,
            "may not be reached by this user",
            "give the user access to the socket, or run as the one who has it",
        ),
    ),
    (TimeoutError, _SLOW),
    (RedisTimeoutError, _SLOW),
)
_CLOSED = _Meaning(
    UnavailableError, "closed the connection", "see whether the server runs, then try again"
)


@contextlib.contextmanager
def redis_errors(url: StoreUrl, doing: str) -> Iterator[None]:
    """Turns what the Redis library raises into errors that say what to do.

    Args:
        url: the store, for the message.
        doing: what is attempted, after "cannot": "read the record".

    Raises:
        UnavailableError: it may work later.
        ConfigError: a setting must change first.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        meaning = _meaning(error, url)
        raise meaning.error(f"cannot {doing}: {url} {meaning.what}", hint=meaning.hint) from error


def _meaning(error: BaseException, url: StoreUrl) -> _Meaning:
    # The library hides causes: a refused password on a unix socket arrives as a plain
    # ConnectionError whose cause tells, an errno only as the context.
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, RedisError):
            found = _by_reply(link, url)
            if found is not None:
                return found
    for link in chain:
        for kind, meaning in _BY_CAUSE:
            if isinstance(link, kind):
                return meaning
    if isinstance(error, ResponseError):
        return _Meaning(
            UnavailableError,
            f"answered with an error ({error})",
            "see whether another program uses the same keys; otherwise report this",
        )
    return _CLOSED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _by_reply(error: RedisError, url: StoreUrl) -> _Meaning | None:
    text = str(error)
    # The library cuts off the codes that it knows. Older servers put those of a command that
    # failed in a script into the middle of the text.
    codes = [error.status_code, *re.findall(r"(?:^|: -)([A-Z]+)\b", text)]
    for code in codes:
        if code == "MOVED" and url.kind == "cluster":
            return _MOVED_CLUSTER
        if code in _BY_CODE:
            return _BY_CODE[code]
    for words, meaning in _BY_TEXT.items():
        if words in text.lower():
            return meaning
    return _PASSWORD if isinstance(error, AuthenticationError) else None


# --- what kind of server it is -------------------------------------------------------------------


@dataclass(frozen=True)
class ServerFacts:
    """What a server says about itself."""

    product: Literal["redis", "valkey"]
    version: tuple[int, ...]
    run_id: str
    role: Literal["primary", "replica"]
    connected_replicas: int
    maxmemory_bytes: int
    maxmemory_policy: str
    appendonly: bool
    appendfsync: str  # '' where it may not be asked for
    uptime_s: int
    needs_replicas: bool = False  # min-replicas-to-write is set


@dataclass(frozen=True)
class Problem:
    """Something about a server that loses data (error) or may lose data (warning)."""

    level: Literal["error", "warning"]
    text: str
    hint: str


async def preflight(client: Redis) -> ServerFacts:
    """Asks a server what it is; call it within ``redis_errors``."""
    info = await client.info()
    valkey_version = info.get("valkey_version")
    version = str(valkey_version or info["redis_version"])
    return ServerFacts(
        product="valkey" if valkey_version else "redis",
        version=tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])),
        run_id=str(info["run_id"]),
        role="primary" if info["role"] == "master" else "replica",
        connected_replicas=int(info["connected_slaves"]),
        maxmemory_bytes=int(info["maxmemory"]),
        maxmemory_policy=str(info["maxmemory_policy"]),
        appendonly=bool(info["aof_enabled"]),
        appendfsync=await _appendfsync(client),
        uptime_s=int(info["uptime_in_seconds"]),
        needs_replicas="min_slaves_good_slaves" in info,  # shown only where it is asked for
    )


async def _appendfsync(client: Redis) -> str:
    try:
        settings = await client.config_get("appendfsync")
    except ResponseError:  # rented servers often forbid CONFIG
        return ""
    return settings.get("appendfsync") or ""


def problems(facts: ServerFacts) -> list[Problem]:
    """What makes this server unfit, or less safe, to hold the cluster's record."""
    found: list[Problem] = []
    if facts.version < OLDEST_VERSION:
        version = ".".join(map(str, facts.version))
        found.append(
            Problem("error", f"the server is {facts.product} {version}", "use 6.2 or newer")
        )
    if facts.role == "replica":
        found.append(
            Problem(
                "error",
                "the server is a replica and takes no writes",
                "give the URL of the primary, or of its Sentinels",
            )
        )
    if facts.maxmemory_bytes > 0 and facts.maxmemory_policy != "noeviction":
        found.append(
            Problem(
                "error",
                f"the server throws keys away when memory is short ({facts.maxmemory_policy})",
                "set maxmemory-policy noeviction",
            )
        )
    if not facts.appendonly:
        found.append(
            Problem(
                "warning",
                "the server does not log writes, a crash loses the newest ones",
                "set appendonly yes and appendfsync always",
            )
        )
    elif facts.appendfsync not in ("always", ""):
        found.append(
            Problem(
                "warning",
                f"a crash of its machine loses the newest writes (appendfsync {facts.appendfsync})",
                "set appendfsync always",
            )
        )
    if facts.connected_replicas > 0 and not facts.needs_replicas:
        found.append(
            Problem(
                "warning",
                "the server goes on writing when it is cut off from its replicas",
                "set min-replicas-to-write 1 and a small min-replicas-max-lag",
            )
        )
    return found
