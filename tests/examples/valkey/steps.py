"""The server of one node, as a primary or a replica, in its node's turn of a rollout.

    python steps.py first|start|installed|drain|install|restart|verify|look NODE

Runs where `servers.toml`, `server.conf` and `releases/VERSION`, the server program of each release,
are; what a server has is in a directory of its node's name. `first` starts the primary of a new
group, `start` a replica; the others are the commands that a node's settings name.

A replica can get its data from a primary of an older release, seldom from one of a newer release.
So the primary is handed to the oldest replica, and one that still is the primary is not restarted.
Each step may be run again.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotThereError
from redis.retry import Retry

HAND_OVER_MS = 10_000  # writes wait for so long; then the old primary goes on
WITHIN_S = 120.0
LOOK_AGAIN_S = 0.05


class Server:
    """The server of one node, running or not."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.directory = name, Path(name)
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)
        self.client = Redis(
            host=host, port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )

    def answers(self) -> bool:
        """It is there."""
        try:
            return bool(self.client.ping())
        except NotThereError:  # BusyLoadingError is one of these, too
            return False

    def is_primary(self) -> bool:
        """It answers, and is no replica."""
        return self.answers() and self.replication()["role"] == "master"

    def replication(self) -> dict:
        """What it says of its replicas, or of its primary."""
        return self.client.info("replication")

    def running(self) -> tuple[int, ...]:
        """The version of the program that runs; Valkey also names the Redis that it is like."""
        info = self.client.info("server")
        return numbers(info.get("valkey_version") or info["redis_version"])

    def installed(self) -> str:
        """The version of the program that the next start takes."""
        return version_of(self.directory / "program")

    def spawn(self, primary: "Server | None") -> None:
        """Start it, and wait until it answers."""
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        of = ["--replicaof", primary.host, str(primary.port)] if primary else []
        here = self.directory.absolute()
        subprocess.run(
            [here / "program", "server.conf", "--port", str(self.port), "--dir", here / "data",
             "--logfile", here / "log", "--pidfile", here / "pid", *of],
            check=True,
        )  # fmt: skip
        until(self.answers, f"{self.name} to answer; its log is {here / 'log'}")

    def stop(self) -> None:
        """End it in order."""
        if self.answers():
            self.client.shutdown(nosave=True)
        pid = self.directory / "pid"
        until(lambda: not self.answers() and not pid.exists(), f"{self.name} to end")


def main(step: str, name: str) -> None:
    """Do one step."""
    with Path("servers.toml").open("rb") as file:
        servers = {one: Server(one, address) for one, address in tomllib.load(file).items()}
    me, others = servers[name], [one for one in servers.values() if one.name != name]
    match step:
        case "first":
            me.spawn(None)
        case "start":
            me.spawn(primary_of(others))
        case "installed":
            print(me.installed())
        case "drain":
            drain(me, others)
        case "install":
            install(me, os.environ["PEERUPGRADE_VERSION"])
        case "restart":
            restart(me, others)
        case "verify":
            verify(me)
        case "look":
            look(me, os.environ["PEERUPGRADE_STEP"])
        case _:
            sys.exit(f"there is no step {step!r}")


def drain(me: Server, others: list[Server]) -> None:
    """Let no client and no replica depend on this server."""
    if me.is_primary():
        hand_over(me, replicas_of(me, others))
    primary = primary_of(others)
    for one in others:
        if one is not primary and one.answers():  # it may hang on this server
            one.client.replicaof(primary.host, primary.port)
            until(lambda one=one: follows(one), f"{one.name} to follow {primary.name}")
    print(f"{primary.name} is the primary")


def hand_over(me: Server, replicas: list[Server]) -> None:
    """What was written is not lost, and what clients write meanwhile waits."""
    if not replicas:
        sys.exit(f"{me.name} is the primary and has no replica to hand over to")
    heir = min(replicas, key=Server.running)
    me.client.execute_command("FAILOVER", "TO", heir.host, heir.port, "TIMEOUT", HAND_OVER_MS)
    until(
        lambda: me.replication()["master_failover_state"] == "no-failover",
        f"{me.name} to hand over to {heir.name}",
    )
    if me.is_primary():
        sys.exit(f"{heir.name} did not catch up within {HAND_OVER_MS} ms, {me.name} goes on")


def install(me: Server, version: str) -> None:
    """Let the next start take that release."""
    program = Path("releases", version).absolute()
    if version_of(program) != version:
        sys.exit(f"{program} is release {version_of(program)}")
    me.directory.mkdir(exist_ok=True)
    link = me.directory / "program.new"
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    link.replace(me.directory / "program")


def restart(me: Server, others: list[Server]) -> None:
    """Start the program that is installed, as a replica that gets all data from the primary.

    What it had is kept in `data.old` until the next time: an older release cannot read what a newer
    one has written.
    """
    if me.is_primary():
        sys.exit(f"{me.name} is the primary: run drain first")
    primary = primary_of(others)
    me.stop()
    data, old = me.directory / "data", me.directory / "data.old"
    if data.exists():
        shutil.rmtree(old, ignore_errors=True)
        data.rename(old)
    me.spawn(primary)


def verify(me: Server) -> None:
    """It runs what is installed, and has all that the primary has."""
    until(lambda: follows(me), f"{me.name} to follow its primary")
    if me.running() != numbers(me.installed()):
        sys.exit(f"{me.name} runs {me.running()}, and {me.installed()} is installed")


def look(me: Server, step: str) -> None:
    """Exit status 0: the step was done; 1: run it, once more if need be."""
    restarted = step == "restart" and me.answers() and me.running() == numbers(me.installed())
    sys.exit(0 if restarted else 1)


def primary_of(others: list[Server]) -> Server:
    """The one that the others have."""
    found = [one for one in others if one.is_primary()]
    if len(found) != 1:
        sys.exit(f"there must be one primary among the others: {[one.name for one in found]}")
    return found[0]


def replicas_of(me: Server, others: list[Server]) -> list[Server]:
    """Those that get each write as it is made."""
    said = me.replication()
    replicas = [said[f"slave{number}"] for number in range(said["connected_slaves"])]
    online = {(one["ip"], int(one["port"])) for one in replicas if one["state"] == "online"}
    return [one for one in others if (one.host, one.port) in online]


def follows(me: Server) -> bool:
    """It is a replica, and gets each write as it is made."""
    return me.answers() and me.replication().get("master_link_status") == "up"


def version_of(program: Path) -> str:
    """As the program says."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    found = re.search(r" v=([\d.]+)", said.stdout)
    return found[1] if found else sys.exit(f"{program} is no Redis or Valkey server")


def numbers(version: str) -> tuple[int, ...]:
    """Of a version, in order."""
    return tuple(int(part) for part in version.split("."))


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait, and give up with a message that says for what."""
    deadline_s = time.monotonic() + WITHIN_S
    while not reached():
        if time.monotonic() > deadline_s:
            sys.exit(f"waited {WITHIN_S:g} s for {what}")
        time.sleep(LOOK_AGAIN_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
