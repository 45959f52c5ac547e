"""Reaching a Redis, on every server program of this machine: plain, by Sentinel, as a cluster."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest
from redis import exceptions
from redis.asyncio.connection import SSLConnection

from peerupgrade.adapters.embedded import EmbeddedServer, available_servers
from peerupgrade.adapters.redis_link import (
    Problem,
    RedisLink,
    ServerFacts,
    StoreUrl,
    parse_store_url,
    preflight,
    problems,
    redis_errors,
)
from peerupgrade.errors import ConfigError, UnavailableError

PATIENCE_S = 30.0
PASSWORD = "s3cret"
KEY = "{demo}record"

on_every_server = pytest.mark.parametrize(
    "binary",
    available_servers(),
    ids=lambda b: f"{b.name}-{'.'.join(map(str, b.version))}",
)
on_both_addresses = pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])


def link_to(url, timeout_s=2.0):
    return RedisLink(parse_store_url(url), timeout_s=timeout_s, slot_key=KEY)


@contextlib.asynccontextmanager
async def connected(link, **options):
    client = await link.connect(**options)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def started(directory, binary, *extra, tcp=True, password=PASSWORD):
    async with EmbeddedServer(
        directory, binary=binary, tcp=tcp, password=password, extra_config=extra
    ) as server:
        yield server


def port_of(server):
    return int(server.url.rpartition(":")[2].partition("/")[0])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestUrl:
    """What the URL of a store may look like."""

    @pytest.mark.parametrize(
        ("text", "url", "redacted"),
        [
            (
                "redis://localhost",
                StoreUrl("tcp", hosts=(("localhost", 6379),)),
                "redis://localhost:6379/0",
            ),
            (
                "redis://:p%40ss@h:1/3",
                StoreUrl("tcp", hosts=(("h", 1),), db=3, password="p@ss"),
                "redis://:***@h:1/3",
            ),
            (
                "rediss://ann:pw@[::1]:7000?db=2",
                StoreUrl(
                    "tcp",
                    tls=True,
                    hosts=(("::1", 7000),),
                    db=2,
                    username="ann",
                    password="pw",
                ),
                "rediss://ann:***@[::1]:7000/2",
            ),
            ("unix:///run/r.sock", StoreUrl("unix", path="/run/r.sock"), "unix:///run/r.sock"),
            (
                "unix://:pw@/a%20b/r.sock?db=1",
                StoreUrl("unix", path="/a b/r.sock", db=1, password="pw"),
                "unix://:***@/a%20b/r.sock?db=1",
            ),
            (
                "redis+sentinel://:pw@a:1,b/main",
                StoreUrl("sentinel", hosts=(("a", 1), ("b", 26379)), service="main", password="pw"),
                "redis+sentinel://:***@a:1,b:26379/main/0",
            ),
            (
                "rediss+sentinel://a/main/4",
                StoreUrl("sentinel", tls=True, hosts=(("a", 26379),), service="main", db=4),
                "rediss+sentinel://a:26379/main/4",
            ),
            (
                "redis+cluster://a,b:7001",
                StoreUrl("cluster", hosts=(("a", 6379), ("b", 7001))),
                "redis+cluster://a:6379,b:7001",
            ),
            (
                "rediss+cluster://:pw@a/",
                StoreUrl("cluster", tls=True, hosts=(("a", 6379),), password="pw"),
                "rediss+cluster://:***@a:6379",
            ),
        ],
    )
    def test_is_read(self, text, url, redacted):
        parsed = parse_store_url(text)
        assert parsed == url
        assert parsed.redacted == str(parsed) == redacted
        assert url.password == "" or url.password not in repr(parsed) + str(parsed)
        if not url.password:
            assert parse_store_url(redacted) == url

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("", "has no scheme"),
            ("localhost:6379", "has no scheme"),
            ("http://localhost", "has an unknown scheme"),
            ("redis://", "has no host"),
            ("redis:///0", "has no host"),
            ("redis://a,b", "has more than one host"),
            ("redis://a:99999", "host and port that cannot be read (number 1)"),
            ("redis://a:0", "host and port that cannot be read (number 1)"),
            ("redis://:hidden", "host and port that cannot be read (number 1)"),
            ("redis+cluster://a:1,,b:2", "host and port that cannot be read (number 2)"),
            ("redis://::1:6379", "host and port that cannot be read"),
            ("redis://[::1", "cannot be read"),
            ("redis://hidden@a", "has a user name but no password"),
            ("redis://:hid#den@a", "contains '#'"),
            ("redis://:hidden/x@a/1", "has too long a path"),
            ("redis://a/zero", "has a database that is not a number"),
            ("redis://a/-1", "has a database that is not a number"),
            ("redis://a/1/2", "has too long a path"),
            ("redis://a/1?db=1", "names the database twice"),
            ("redis://a?db=", "has a database that is not a number"),
            ("redis://a?timeout=1", "has unknown options after '?'"),
            ("redis://a?db=1&db=2", "has unknown options after '?'"),
            ("unix://", "has no absolute path"),
            ("unix:///", "has no absolute path"),
            ("unix://run/r.sock", "has no absolute path"),
            ("redis+sentinel://a", "does not name the service"),
            ("redis+sentinel://a/", "does not name the service"),
            ("redis+sentinel://a/main/x", "has a database that is not a number"),
            ("redis+cluster://a/1", "names a database"),
            ("redis+cluster://a?db=1", "has unknown options after '?'"),
        ],
    )
    def test_is_refused(self, text, what):
        with pytest.raises(ConfigError) as caught:
            parse_store_url(text)
        assert what in str(caught.value)
        assert caught.value.hint
        assert "hid" not in str(caught.value)


class TestClient:
    """The client that comes out."""

    @on_every_server
    @on_both_addresses
    @pytest.mark.asyncio
    async def test_reaches_the_server(self, tmp_path, binary, tcp):
        async with (
            started(tmp_path, binary, tcp=tcp) as server,
            connected(link_to(server.url)) as client,
        ):
            await client.set(KEY, "ü")
            assert await client.get(KEY) == "ü"
            assert client.connection is not None

    @on_every_server
    @pytest.mark.asyncio
    async def test_uses_the_database_of_the_url(self, tmp_path, binary):
        async with started(tmp_path, binary) as server:
            async with connected(link_to(server.url[:-1] + "5")) as client:
                await client.set(KEY, "five")
            async with connected(link_to(server.url)) as client:
                assert await client.get(KEY) is None
                assert (await client.info("keyspace")).keys() == {"db5"}

    @on_every_server
    @pytest.mark.asyncio
    async def test_waits_for_a_free_connection(self, tmp_path, binary):
        async with started(tmp_path, binary) as server, connected(link_to(server.url)) as client:
            assert await asyncio.gather(*(client.incr(KEY) for _ in range(50)))
            assert await client.get(KEY) == "50"

    @on_every_server
    @pytest.mark.asyncio
    async def test_a_command_is_never_sent_twice(self, tmp_path, binary):
        async with started(tmp_path, binary) as server:
            link = link_to(server.url, timeout_s=0.2)
            async with connected(link) as client:
                await client.set(KEY, 0)
                os.kill(server.pid, signal.SIGSTOP)
                # It goes on while a second attempt, if there were one, would be under way.
                loop = asyncio.get_running_loop()
                loop.call_later(0.5, os.kill, server.pid, signal.SIGCONT)
                with pytest.raises(UnavailableError), redis_errors(link.url, "count"):
                    async with asyncio.timeout(10):
                        await client.incr(KEY)
                await asyncio.sleep(0.5)
            async with connected(link_to(server.url)) as client:
                assert int(await client.get(KEY)) <= 1

    @on_every_server
    @on_both_addresses
    @pytest.mark.asyncio
    async def test_works_again_after_a_restart(self, tmp_path, binary, tcp):
        async with started(tmp_path, binary, tcp=tcp) as server:
            link = link_to(server.url)
            async with connected(link) as client:
                await server.kill()
                with pytest.raises(UnavailableError), redis_errors(link.url, "ping"):
                    await client.ping()
                await server.start()
                assert await client.ping()

    @pytest.mark.asyncio
    async def test_uses_tls_where_the_url_says_so(self):
        link = link_to("rediss://localhost:1")
        client = link._client(("localhost", 1), 1.0)
        assert client.connection_pool.connection_class is SSLConnection
        await client.aclose()

    @on_every_server
    @pytest.mark.asyncio
    async def test_finds_a_vanished_peer_in_seconds(self, tmp_path, binary):
        async with (
            started(tmp_path, binary) as server,
            connected(link_to(server.url)) as client,
        ):
            sock = client.connection._writer.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


class TestErrors:
    """What connecting says when it cannot."""

    @on_every_server
    @on_both_addresses
    @pytest.mark.asyncio
    async def test_wrong_password(self, tmp_path, binary, tcp):
        async with started(tmp_path, binary, tcp=tcp) as server:
            link = link_to(server.url.replace(PASSWORD, "hidden"))
            with pytest.raises(ConfigError) as caught:
                await link.connect()
        assert str(caught.value) == (
            f"cannot connect: {link.url} refused the user name or password: correct the password "
            "in the URL ('redis://:password@host'), with %-escapes for / ? # @"
        )
        assert "hidden" not in str(caught.value)

    @on_every_server
    @on_both_addresses
    @pytest.mark.asyncio
    async def test_no_password(self, tmp_path, binary, tcp):
        async with started(tmp_path, binary, tcp=tcp) as server:
            link = link_to(server.url.replace(f":{PASSWORD}@", ""))
            with pytest.raises(ConfigError, match="asks for a password and the URL has none"):
                await link.connect()

    @on_every_server
    @pytest.mark.asyncio
    async def test_needless_password(self, tmp_path, binary):
        async with (
            started(tmp_path, binary) as server,
            connected(link_to(server.url)) as client,
        ):
            await client.config_set("requirepass", "")
            with pytest.raises(ConfigError, match="has no password, but the URL gives one"):
                await link_to(server.url).connect()

    @pytest.mark.asyncio
    async def test_dead_port(self):
        port = free_port()
        begin = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            await link_to(f"redis://:{PASSWORD}@127.0.0.1:{port}").connect()
        assert time.monotonic() - begin < 1
        assert str(caught.value) == (
            f"cannot connect: redis://:***@127.0.0.1:{port}/0 refused the connection: "
            "start the server there, or correct the address"
        )

    @pytest.mark.asyncio
    async def test_missing_socket(self, tmp_path):
        with pytest.raises(UnavailableError, match="has no socket at that path"):
            await link_to(f"unix://{tmp_path}/none").connect()

    @on_every_server
    @pytest.mark.asyncio
    async def test_no_tls_there(self, tmp_path, binary):
        async with started(tmp_path, binary) as server:
            link = link_to(server.url.replace("redis:", "rediss:"))
            with pytest.raises((ConfigError, UnavailableError)) as caught:
                await link.connect()
            assert str(link.url) in str(caught.value)

    @on_every_server
    @on_both_addresses
    @pytest.mark.asyncio
    async def test_a_hung_server_costs_the_timeout(self, tmp_path, binary, tcp):
        async with started(tmp_path, binary, tcp=tcp) as server:
            link = link_to(server.url, timeout_s=60)
            os.kill(server.pid, signal.SIGSTOP)
            begin = time.monotonic()
            try:
                with pytest.raises(UnavailableError, match="did not answer in time"):
                    await link.connect(timeout_s=0.3)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert 0.2 < time.monotonic() - begin < 5

    @pytest.mark.asyncio
    async def test_the_timeout_is_for_the_whole_of_connecting(self):
        async def slow(reader, writer):
            with contextlib.suppress(OSError, asyncio.CancelledError):
                while await reader.read(1000):
                    await asyncio.sleep(0.3)
                    writer.write(b"+OK\r\n" * 3)
            writer.close()

        async with await asyncio.start_server(slow, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            link = link_to(f"redis://:{PASSWORD}@127.0.0.1:{port}/1", timeout_s=0.5)
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await link.connect()

    @on_every_server
    @pytest.mark.asyncio
    async def test_cancelling_passes_through(self, tmp_path, binary):
        async with started(tmp_path, binary) as server:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                task = asyncio.create_task(link_to(server.url, 60).connect())
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            finally:
                os.kill(server.pid, signal.SIGCONT)

    @on_every_server
    @pytest.mark.asyncio
    async def test_what_a_real_server_answers(self, tmp_path, binary):
        extra = ["replica-read-only yes", "rename-command FLUSHALL ''"]
        async with (
            started(tmp_path, binary, *extra) as server,
            connected(link_to(server.url)) as client,
        ):
            url = parse_store_url(server.url)
            write = "return redis.call('SET', KEYS[1], '1')"

            async def refused(kind, text, *command):
                with pytest.raises(kind, match=text), redis_errors(url, "try"):
                    await client.execute_command(*command)

            await refused(ConfigError, "does not know a command", "NOSUCH")
            await refused(ConfigError, "does not know a command", "FLUSHALL")
            lua = "return redis.call('NOSUCH')"
            await refused(ConfigError, "does not know a command", "EVAL", lua, 0)
            await refused(ConfigError, "has no database of that number", "SELECT", 99)
            await client.config_set("min-replicas-to-write", 1)
            await refused(UnavailableError, "fewer replicas in good state", "SET", KEY, 1)
            await refused(UnavailableError, "fewer replicas in good st", "EVAL", write, 1, KEY)
            await client.config_set("min-replicas-to-write", 0)
            await client.config_set("maxmemory", 1)
            await refused(UnavailableError, "is out of memory", "SET", KEY, 1)
            await refused(UnavailableError, "is out of memory", "EVAL", write, 1, KEY)
            await client.config_set("maxmemory", 0)
            await client.execute_command("REPLICAOF", "127.0.0.1", 1)
            await refused(UnavailableError, "is a read-only replica", "SET", KEY, 1)
            await refused(UnavailableError, "is a read-only replica", "EVAL", write, 1, KEY)
            await client.execute_command("REPLICAOF", "NO", "ONE")
            await client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "+ping")
            async with connected(link_to(f"redis://weak:pw@127.0.0.1:{port_of(server)}")) as weak:
                with pytest.raises(ConfigError, match="does not permit"), redis_errors(url, "try"):
                    await weak.get(KEY)

    @on_every_server
    @pytest.mark.asyncio
    async def test_a_busy_server(self, tmp_path, binary):
        async with (
            started(tmp_path, binary, "lua-time-limit 10") as server,
            connected(link_to(server.url, timeout_s=20)) as busy,
            connected(link_to(server.url, timeout_s=20)) as client,
        ):
            loop = asyncio.create_task(busy.eval("while true do end", 0))
            messages = []
            deadline = time.monotonic() + PATIENCE_S
            while not messages:  # the script may not have begun
                assert time.monotonic() < deadline
                try:
                    with redis_errors(parse_store_url(server.url), "write"):
                        await client.set(KEY, 1)
                except UnavailableError as error:
                    messages.append(str(error))
            assert "is busy with a script that runs for long" in messages[0]
            await client.script_kill()
            with pytest.raises(exceptions.ResponseError):
                await loop

    @pytest.mark.parametrize(
        ("error", "kind", "text"),
        [
            (exceptions.BusyLoadingError("x", status_code="LOADING"), UnavailableError, "loading"),
            (
                exceptions.MovedError("1 h:1", status_code="MOVED"),
                ConfigError,
                r"belongs to a Redis Cluster .* write redis\+cluster://",
            ),
            (exceptions.ResponseError("MISCONF Errors"), UnavailableError, "cannot write to its"),
            (
                exceptions.ResponseError(
                    "Error running script (call to f_1): @user_script:1: -READONLY You can't"
                ),
                UnavailableError,
                "is a read-only replica",
            ),
            (
                exceptions.ResponseError("WRONGTYPE Operation"),
                UnavailableError,
                r"answered with an error \(WRONGTYPE Operation\)",
            ),
            (exceptions.ConnectionError("x"), UnavailableError, "closed the connection"),
            (exceptions.TimeoutError("x"), UnavailableError, "did not answer in time"),
            (TimeoutError(), UnavailableError, "did not answer in time"),
            (socket.gaierror(-2, "x"), UnavailableError, "host name that cannot be resolved"),
            (PermissionError(13, "x"), ConfigError, "may not be reached by this user"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_each_has_a_meaning(self, error, kind, text):
        url = parse_store_url(f"redis://:{PASSWORD}@h")
        pattern = rf"^cannot read: redis://:\*\*\*@h:6379/0 .*{text}"
        with pytest.raises(kind, match=pattern) as got, redis_errors(url, "read"):
            raise error
        assert got.value.__cause__ is error
        assert got.value.hint

    def test_a_moved_slot_of_a_cluster_needs_no_new_setting(self):
        url = parse_store_url("redis+cluster://h")
        with pytest.raises(UnavailableError, match="connect again"), redis_errors(url, "read"):
            raise exceptions.MovedError("1 h:1", status_code="MOVED")

    def test_other_errors_pass_through(self):
        with pytest.raises(KeyError), redis_errors(parse_store_url("redis://h"), "read"):
            raise KeyError


class TestPreflight:
    """What a server says about itself, and what of it is a problem."""

    @on_every_server
    @pytest.mark.asyncio
    async def test_facts(self, tmp_path, binary):
        async with started(tmp_path, binary) as server, connected(link_to(server.url)) as client:
            facts = await preflight(client)
            assert (facts.product, facts.version) == (binary.name, binary.version)
            assert facts.run_id == (await client.info("server"))["run_id"]
            assert facts == ServerFacts(
                product=facts.product,
                version=facts.version,
                run_id=facts.run_id,
                role="primary",
                connected_replicas=0,
                maxmemory_bytes=0,
                maxmemory_policy="noeviction",
                appendonly=True,
                appendfsync="always",
                uptime_s=facts.uptime_s,
            )
            assert problems(facts) == []

    @on_every_server
    @pytest.mark.asyncio
    async def test_bad_settings_are_seen(self, tmp_path, binary):
        extra = ["maxmemory 64mb", "maxmemory-policy allkeys-lru", "rename-command CONFIG ''"]
        async with (
            started(tmp_path, binary, *extra, "appendonly no") as server,
            connected(link_to(server.url)) as client,
        ):
            await client.execute_command("REPLICAOF", "127.0.0.1", 1)
            facts = await preflight(client)
        assert facts.appendfsync == ""
        assert facts.maxmemory_bytes == 64 * 1024 * 1024
        assert problems(facts) == [
            Problem(
                "error",
                "the server is a replica and takes no writes",
                "give the URL of the primary, or of its Sentinels",
            ),
            Problem(
                "error",
                "the server throws keys away when memory is short (allkeys-lru)",
                "set maxmemory-policy noeviction",
            ),
            Problem(
                "warning",
                "the server does not log writes, a crash loses the newest ones",
                "set appendonly yes and appendfsync always",
            ),
        ]

    def test_eviction_without_a_limit_and_a_new_enough_server_are_no_problem(self):
        assert problems(facts_of(version=(6, 2, 0), maxmemory_policy="allkeys-lru")) == []

    def test_an_old_server_is(self):
        assert problems(facts_of(version=(6, 0, 16))) == [
            Problem("error", "the server is redis 6.0.16", "use 6.2 or newer")
        ]


def facts_of(**changed):
    return ServerFacts(
        **{
            "product": "redis",
            "version": (7, 0, 0),
            "run_id": "r",
            "role": "primary",
            "connected_replicas": 0,
            "maxmemory_bytes": 0,
            "maxmemory_policy": "noeviction",
            "appendonly": True,
            "appendfsync": "always",
            "uptime_s": 1,
            **changed,
        }
    )


@contextlib.asynccontextmanager
async def sentinel(directory, binary, primary_port, password=""):
    """A Sentinel that watches one primary; it insists on a file of its own."""
    directory.mkdir()
    port = free_port()
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {directory}",
        f"sentinel monitor main 127.0.0.1 {primary_port} 1",
        f"sentinel auth-pass main {PASSWORD}",
        "sentinel down-after-milliseconds main 300",
        "sentinel failover-timeout main 2000",
        *([f"requirepass {password}"] if password else []),
    ]
    config = directory / "sentinel.conf"
    config.write_text("\n".join(lines) + "\n")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([binary.path, str(config), "--sentinel"], stdout=log, stderr=log)
    try:
        await eventually(lambda: listens(port), "the Sentinel listens")
        yield port
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def eventually(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


class TestSentinel:
    """The primary is asked for at each connect."""

    @on_every_server
    @pytest.mark.parametrize("password", ["", PASSWORD], ids=["open", "password"])
    @pytest.mark.asyncio
    async def test_finds_the_primary_and_after_a_failover_the_new_one(
        self, tmp_path, binary, password
    ):
        async with contextlib.AsyncExitStack() as stack:
            extra = [f"masterauth {PASSWORD}", "repl-diskless-sync-delay 0"]
            first = await stack.enter_async_context(started(tmp_path / "1", binary, *extra))
            second = await stack.enter_async_context(
                started(tmp_path / "2", binary, *extra, f"replicaof 127.0.0.1 {port_of(first)}")
            )
            watcher = await stack.enter_async_context(
                sentinel(tmp_path / "s", binary, port_of(first), password)
            )
            link = link_to(f"redis+sentinel://:{PASSWORD}@127.0.0.1:{watcher}/main")
            async with connected(link) as client:
                assert (await preflight(client)).run_id == await run_id(first)
            await watched_with_a_replica(watcher, password)
            await first.kill()
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    client = await link.connect()
                    break
                except UnavailableError:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            assert (await preflight(client)).run_id == await run_id(second)
            await client.set(KEY, 1)
            await client.aclose()

    @on_every_server
    @pytest.mark.asyncio
    async def test_a_hung_one_of_three_costs_nothing(self, tmp_path, binary):
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(started(tmp_path / "1", binary))
            good = [
                await stack.enter_async_context(
                    sentinel(tmp_path / f"s{n}", binary, port_of(server))
                )
                for n in range(2)
            ]
            hung = socket.create_server(("127.0.0.1", 0))
            stack.callback(hung.close)
            hosts = [hung.getsockname()[1], *good]
            hosts = ",".join(f"127.0.0.1:{port}" for port in hosts)
            link = link_to(f"redis+sentinel://:{PASSWORD}@{hosts}/main", timeout_s=20)
            begin = time.monotonic()
            async with connected(link) as client:
                assert await client.ping()
            assert time.monotonic() - begin < 5

    @on_every_server
    @pytest.mark.asyncio
    async def test_one_hung_of_two_leaves_time_for_the_other(self, tmp_path, binary):
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(started(tmp_path / "1", binary))
            good = await stack.enter_async_context(
                sentinel(tmp_path / "s", binary, port_of(server))
            )
            hung = socket.create_server(("127.0.0.1", 0))
            stack.callback(hung.close)
            hosts = f"127.0.0.1:{hung.getsockname()[1]},127.0.0.1:{good}"
            link = link_to(f"redis+sentinel://:{PASSWORD}@{hosts}/main", timeout_s=1)
            async with connected(link) as client:
                assert await client.ping()

    @on_every_server
    @pytest.mark.asyncio
    async def test_a_named_server_that_is_no_primary_is_refused(self, tmp_path, binary):
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(started(tmp_path / "1", binary))
            port = await stack.enter_async_context(
                sentinel(tmp_path / "s", binary, port_of(server))
            )
            async with connected(link_to(server.url)) as client:
                await client.execute_command("REPLICAOF", "127.0.0.1", 1)
            with pytest.raises(UnavailableError, match="call the primary, is not one: try again"):
                await link_to(f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/main").connect()

    @on_every_server
    @pytest.mark.asyncio
    async def test_an_unknown_service_is_named(self, tmp_path, binary):
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(started(tmp_path / "1", binary))
            port = await stack.enter_async_context(
                sentinel(tmp_path / "s", binary, port_of(server))
            )
            with pytest.raises(ConfigError, match="do not watch a service 'other'"):
                await link_to(f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/other").connect()

    @pytest.mark.asyncio
    async def test_no_sentinel_at_all(self):
        with pytest.raises(UnavailableError, match="refused the connection"):
            await link_to(f"redis+sentinel://127.0.0.1:{free_port()}/main").connect()

    @pytest.mark.asyncio
    async def test_hung_sentinels_cost_the_timeout(self):
        with socket.create_server(("127.0.0.1", 0)) as hung:
            begin = time.monotonic()
            port = hung.getsockname()[1]
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await link_to(f"redis+sentinel://127.0.0.1:{port}/main", 0.4).connect()
            assert time.monotonic() - begin < 5


async def run_id(server):
    async with connected(link_to(server.url)) as client:
        return (await client.info("server"))["run_id"]


async def watched_with_a_replica(port, password):
    """Waits until the Sentinel could fail over."""
    secret = f":{password}@" if password else ""
    async with connected(link_to(f"redis://{secret}127.0.0.1:{port}")) as client:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            replicas = await client.sentinel_slaves("main")
            if replicas and replicas[0]["master-link-status"] == "ok":
                return
            assert time.monotonic() < deadline, "the Sentinel has found the replica"
            await asyncio.sleep(0.05)


class TestCluster:
    """The node that serves the slot is found from any other."""

    @on_every_server
    @pytest.mark.asyncio
    async def test_one_node(self, tmp_path, binary):
        async with (
            cluster(tmp_path, binary, [(0, 16383)]) as (node,),
            connected(link_to(cluster_url(node))) as client,
        ):
            await client.set(KEY, 1)

    @on_every_server
    @pytest.mark.asyncio
    async def test_the_owner_is_found_from_either_of_two(self, tmp_path, binary):
        # The slot of "{demo}" is 903.
        async with cluster(tmp_path, binary, [(0, 8191), (8192, 16383)]) as nodes:
            for start in nodes:
                async with connected(link_to(cluster_url(start))) as client:
                    assert (await preflight(client)).run_id == await run_id(nodes[0])
                    await client.set(KEY, 1)
            plain = link_to(nodes[1].url)
            async with connected(plain) as client:
                with (
                    pytest.raises(ConfigError, match=r"write redis\+cluster://"),
                    redis_errors(plain.url, "write"),
                ):
                    await client.set(KEY, 1)

    @on_every_server
    @pytest.mark.asyncio
    async def test_a_dead_and_a_hung_node_cost_nothing(self, tmp_path, binary):
        async with cluster(tmp_path, binary, [(0, 16383)]) as (node,):
            with socket.create_server(("127.0.0.1", 0)) as hung:
                others = f"127.0.0.1:{free_port()},127.0.0.1:{hung.getsockname()[1]}"
                url = f"redis+cluster://:{PASSWORD}@{others},127.0.0.1:{port_of(node)}"
                begin = time.monotonic()
                async with connected(link_to(url, timeout_s=20)) as client:
                    await client.set(KEY, 1)
                assert time.monotonic() - begin < 5

    @on_every_server
    @pytest.mark.asyncio
    async def test_an_uncovered_slot_is_named(self, tmp_path, binary):
        async with cluster(tmp_path, binary, [(8192, 16383)], healthy=False) as (node,):
            with pytest.raises(UnavailableError, match="says that its Redis Cluster is down"):
                await link_to(cluster_url(node)).connect()

    @pytest.mark.asyncio
    async def test_no_node_at_all(self):
        with pytest.raises(UnavailableError, match="refused the connection"):
            await link_to(f"redis+cluster://127.0.0.1:{free_port()}").connect()


def cluster_url(node):
    return f"redis+cluster://:{PASSWORD}@127.0.0.1:{port_of(node)}"


@contextlib.asynccontextmanager
async def cluster(directory, binary, ranges, *, healthy=True):
    """A Redis Cluster of one node for each range of slots."""
    async with contextlib.AsyncExitStack() as stack:
        extra = ["cluster-enabled yes", f"masterauth {PASSWORD}"]
        nodes = []
        for number, slots in enumerate(ranges):
            # The bus needs a port of its own: the default is 10000 higher, and may be taken.
            bus = f"cluster-port {free_port()}"
            node = await stack.enter_async_context(
                started(directory / str(number), binary, *extra, bus)
            )
            nodes.append((node, bus.split()[1]))
            async with connected(link_to(node.url)) as client:
                await client.execute_command("CLUSTER", "ADDSLOTS", *range(slots[0], slots[1] + 1))
                await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        async with connected(link_to(nodes[0][0].url)) as client:
            for node, bus in nodes[1:]:
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", port_of(node), bus)
        deadline = time.monotonic() + PATIENCE_S
        for node, _ in nodes:
            while healthy:
                async with connected(link_to(node.url)) as client:
                    state = await client.execute_command("CLUSTER INFO")
                if state["cluster_state"] == "ok":
                    break
                assert time.monotonic() < deadline, state
                await asyncio.sleep(0.05)
        yield [node for node, _ in nodes]
