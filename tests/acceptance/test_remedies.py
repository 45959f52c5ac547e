"""Every reason why an upgrade has not finished is brought about, and its own remedy removes it.

Real nodes on real servers, all in this process; the remedies that are commands are run as they are
worded.
"""

import asyncio
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from peerupgrade.adapters.embedded import EmbeddedServer
from peerupgrade.core.blockers import Code, raise_blockers
from peerupgrade.core.health import Probing
from peerupgrade.core.record import HealthState
from peerupgrade.errors import ExitCode
from tests.core.builders import member, record, snapshot
from tests.data.conftest import Cluster, register_1, register_2

pytestmark = pytest.mark.asyncio

WALKED = set()


def walks(*codes):
    """The test brings these about; all together must be all that there are."""
    WALKED.update(codes)
    return lambda test: test


class Walk(Cluster):
    """Nodes that somebody asks why, and who does what they answer."""

    def __init__(self, server, directory, agents):
        super().__init__(server, directory)
        self.agents = agents

    async def start(self, name, installed="1.0", register=None, **changes):
        """Start one, without waiting until it operates."""
        node = self.make(name, installed, register, **changes)
        await node.start()
        await node.serve()
        return node

    async def form(self, *names, register=None, installed="1.0", **changes):
        for name in names:
            await self.start(name, installed, register, bootstrap_expect=len(names), **changes)
        for name in names:
            await self.nodes[name].operating_now()

    async def again(self, name, installed, register=None, **changes):
        """Stop it in order, install, start."""
        await self.stop(name)
        return await self.start(name, installed, register, **changes)

    async def why(self, asked=None):
        """What a node answers; the first one, if it does not matter."""
        node = self.nodes[asked] if asked else next(iter(self.nodes.values()))
        return {(one.code, one.subject): one for one in (await node.ledger()).blockers}

    async def blocked(self, code, subject, *remedy, asked=None):
        """Wait until it is a reason, with a remedy that says all this; gives it."""
        found = {}

        async def named():
            nonlocal found
            found = await self.why(asked)
            blocker = found.get((code, subject))
            return blocker is not None and all(words in blocker.remedy for words in remedy)

        try:
            await self.until(named)
        except TimeoutError:
            raise AssertionError(f"{code} {subject!r} {remedy} is not in {found}") from None
        return found[code, subject]

    async def freed(self, code, subject="", asked=None):
        """Wait until it is no reason any more."""

        async def gone():
            return (code, subject) not in await self.why(asked)

        try:
            await self.until(gone)
        except TimeoutError:
            raise AssertionError(f"{code} {subject!r} stays") from None

    async def command(self, *words):
        (name, *_) = self.nodes
        code, _, said = await self.agents.ask(name, *words)
        if code == ExitCode.UNAVAILABLE:  # the server was away a moment ago: as it says, once more
            code, _, said = await self.agents.ask(name, *words)
        assert code == ExitCode.OK, said

    async def has_master(self):
        record = await self.record()
        return record is not None and record.master != ""

    async def exclude(self, name):
        await self.command("exclude", name, "--confirm-stopped", "--reason", "gone for good")

    async def obey(self, code, subject="", *, command):
        """Run a command that the remedy names, and see the reason go."""
        await self.blocked(code, subject, command)
        await self.command(*shlex.split(command))
        await self.freed(code, subject)


@pytest_asyncio.fixture
async def walk(store, tmp_path, agents):
    walk = Walk(store, tmp_path, agents)
    yield walk
    await walk.aclose()


# --- versions and members -------------------------------------------------------------------------


@walks(Code.OLDER_VERSION)
async def test_older_version(walk):
    await walk.form("a", "b")
    walk.nodes["a"].installed_changed("2.0")
    await walk.blocked(Code.OLDER_VERSION, "b", "install 2.0 on b")
    walk.nodes["b"].installed_changed("2.0")
    await walk.freed(Code.OLDER_VERSION, "b")


@walks(Code.AWAY)
@pytest.mark.parametrize("gone", [False, True])
async def test_away(walk, gone):
    await walk.form("a", "b")
    walk.nodes["a"].installed_changed("2.0")
    await walk.stop("b")
    await walk.blocked(Code.AWAY, "b", "start b again", "exclude it if it is gone")
    if gone:
        await walk.exclude("b")
    else:
        await walk.start("b", "2.0")
    await walk.freed(Code.AWAY, "b")
    await walk.data_is("2.0")


@walks(Code.TOO_NEW)
async def test_too_new(walk):
    await walk.form("a", "b")
    await walk.again("b", "2.0", lowest_supported="2.0")
    await walk.blocked(Code.TOO_NEW, "b", "install a version on b that still supports 1.0")
    await walk.again("b", "2.0", lowest_supported="1.0")
    await walk.freed(Code.TOO_NEW, "b")


@walks(Code.LOWEST_SUPPORTED)
async def test_lowest_supported():
    """Admission does not let it come so far: the guard behind it is looked at by itself."""
    strict = member("a", "3.0", lowest="3.0")
    view = snapshot(record(acting="1.0"), strict, member("b", "2.0"))
    (blocker,) = [one for one in raise_blockers(view, 0) if one.code is Code.LOWEST_SUPPORTED]
    assert "install 3.0 or newer on every node" in blocker.remedy
    newer = replace(view.members["b"], installed=strict.installed)
    view = replace(view, members={"a": strict, "b": newer})
    assert Code.LOWEST_SUPPORTED not in {one.code for one in raise_blockers(view, 0)}


@walks(Code.UNRESPONSIVE)
@pytest.mark.parametrize("gone", [False, True])
async def test_unresponsive(walk, gone):
    await walk.form("a", "b")
    await walk.again("b", "2.0")
    await walk.blocked(Code.OLDER_VERSION, "a")
    await walk.freed(Code.NOT_CONFIRMED, "b")
    await walk.crash("b")
    walk.nodes["a"].installed_changed("2.0")
    await walk.blocked(Code.UNRESPONSIVE, "b", "start b again", "exclude it if it is gone")
    if gone:
        await walk.exclude("b")
    else:
        await walk.start("b", "2.0")
    await walk.freed(Code.UNRESPONSIVE, "b")
    await walk.data_is("2.0")


class Switching:
    """A program whose callback fails or hangs as long as a test wants."""

    def __init__(self, error=None):
        self.error, self.mended = error, asyncio.Event()

    def register(self, node):
        @node.on_acting
        async def _(version, _previous):
            if version == "2.0" and not self.mended.is_set():
                if self.error is not None:
                    raise self.error
                await self.mended.wait()


@walks(Code.NOT_CONFIRMED)
async def test_not_confirmed(walk):
    await walk.form("a")
    await walk.start("b", "1.0", Switching().register)
    await walk.nodes["b"].operating_now()
    for name in "ab":
        walk.nodes[name].installed_changed("2.0")
    await walk.blocked(Code.NOT_CONFIRMED, "b", "start it again")
    await walk.crash("b")
    await walk.start("b", "2.0")
    await walk.freed(Code.NOT_CONFIRMED, "b")


@walks(Code.CALLBACK_FAILED)
async def test_callback_failed(walk):
    program = Switching(RuntimeError("no room"))
    await walk.form("a", register=program.register)
    walk.nodes["a"].installed_changed("2.0")
    mend = ("mend what its callback reports", "tries again by itself")
    blocker = await walk.blocked(Code.CALLBACK_FAILED, "a", *mend)
    assert "no room" in blocker.evidence
    program.mended.set()
    await walk.freed(Code.CALLBACK_FAILED, "a")


@walks(Code.HOLD)
async def test_hold(walk):
    await walk.form("a")
    await walk.command("hold", "--reason", "Friday")
    walk.nodes["a"].installed_changed("2.0")
    await walk.obey(Code.HOLD, command="release")
    await walk.data_is("2.0")


@walks(Code.NOBODY_SERVES)
async def test_nobody_serves(walk):
    await walk.form("a")
    await walk.again("a", "2.0", lowest_supported="2.0")
    await walk.blocked(
        Code.NOBODY_SERVES, "", "start a node with a version that still supports 1.0"
    )
    await walk.start("b", "2.0", lowest_supported="1.0")
    await walk.freed(Code.NOBODY_SERVES)
    await walk.data_is("2.0")


@walks(Code.FORMING)
async def test_forming(walk):
    await walk.start("a", bootstrap_expect=2)
    await walk.blocked(Code.FORMING, "", "start 1 more")
    await walk.start("b", bootstrap_expect=2)
    await walk.freed(Code.FORMING)


# --- shared data and steps ------------------------------------------------------------------------


async def with_notes(walk, register, *, paused=False):
    """One node with two notes, upgraded to a release that has what `register` registers."""
    await walk.form("a", register=register_1)
    notes = walk.nodes["a"].collection("notes")
    for key in ("one", "two"):
        await notes.put(key, "as it is")
    if paused:
        await walk.command("data", "pause", "--reason", "busy")
    await walk.again("a", "2.0", register)


@walks(Code.CONVERTING)
async def test_converting(walk):
    await with_notes(walk, register_2, paused=True)
    await walk.obey(Code.CONVERTING, "notes", command="data resume")
    await walk.data_is("2.0")


def register_broken(node):
    def upgrade(text):
        raise ValueError("not in my words")

    register_2(node, upgrade=upgrade)


@walks(Code.PARKED)
@pytest.mark.parametrize("verdict", ["skip", "delete", "retry"])
async def test_parked(walk, verdict):
    await with_notes(walk, register_broken)
    await walk.blocked(Code.PARKED, "notes/one")
    await walk.blocked(Code.PARKED, "notes/two", "data retry|skip|delete notes two")
    if verdict == "retry":  # it helps once the codec is mended
        await walk.again("a", "2.0", register_2)
    for key in ("one", "two"):
        await walk.command("data", verdict, "notes", key)
    await walk.freed(Code.PARKED, "notes/two")
    await walk.data_is("2.0")


@walks(Code.NO_CODEC)
async def test_no_codec(walk):
    await with_notes(walk, None)
    await walk.blocked(
        Code.NO_CODEC, "notes", "start a program that registers the collection 'notes'"
    )
    await walk.start("b", "2.0", register_2)
    await walk.freed(Code.NO_CODEC, "notes")
    await walk.data_is("2.0")


class Stepping:
    """A program with a step of its own that fails, or lasts as long as a test wants."""

    def __init__(self, kind, error=None):
        self.kind, self.error, self.mended = kind, error, asyncio.Event()

    def register(self, node):
        @getattr(node, self.kind)("2.0", name="fill")
        async def _(_context):
            if self.error is not None and not self.mended.is_set():
                raise self.error
            await self.mended.wait()


@walks(Code.BEFORE_STEP, Code.MIGRATION)
@pytest.mark.parametrize(
    ("kind", "code"), [("before", Code.BEFORE_STEP), ("migration", Code.MIGRATION)]
)
@pytest.mark.parametrize("error", [None, RuntimeError("no room")])
async def test_steps_of_the_application(walk, kind, code, error):
    program = Stepping(kind, error)
    await walk.form("a", register=program.register)
    walk.nodes["a"].installed_changed("2.0")

    async def told():
        blocker = (await walk.why()).get((code, "2.0 fill"))
        return blocker and (error is None or "no room" in blocker.evidence)

    await walk.until(told)
    remedy = "wait: a, the master, runs it" if error is None else "mend what it reports"
    await walk.blocked(code, "2.0 fill", remedy)
    program.mended.set()
    await walk.freed(code, "2.0 fill")
    await walk.data_is("2.0")


@walks(Code.BEFORE_STEP)
async def test_nobody_has_the_steps(walk):
    program = Stepping("before")
    await walk.form("a", register=program.register)
    walk.nodes["a"].installed_changed("2.0")
    await walk.blocked(Code.BEFORE_STEP, "2.0 fill")
    await walk.start("b", "2.0")
    await walk.crash("a")
    await walk.start("a", "2.0")
    await walk.blocked(Code.BEFORE_STEP, "2.0 fill", "start a program that registers")
    program.mended.set()
    await walk.start("c", "2.0", program.register)
    await walk.freed(Code.BEFORE_STEP, "2.0 fill")


# --- the store, the lock servers and the node itself ----------------------------------------------


@walks(Code.STORE_UNVERIFIED)
async def test_store_unverified(walk, store):
    await walk.form("a", quarantine_s=1.0)
    await store.stop()
    await store.start()
    await walk.blocked(Code.STORE_UNVERIFIED, "", "wait")
    await walk.freed(Code.STORE_UNVERIFIED)


@walks(Code.NOT_ATTACHED)
@pytest.mark.parametrize("gone", [False, True])
async def test_not_attached(walk, store, gone):
    await walk.form("a", "b", quarantine_s=0.5)
    await walk.crash("b")
    await store.stop()
    await store.start()
    await walk.blocked(Code.NOT_ATTACHED, "b", "start b again", "exclude it if it is gone")
    if gone:
        await walk.blocked(Code.STORE_UNVERIFIED, "")
        await walk.freed(Code.STORE_UNVERIFIED)
        await walk.exclude("b")
    else:
        await walk.start("b", quarantine_s=0.5)
    await walk.freed(Code.NOT_ATTACHED, "b")


@walks(Code.STORE_UNREACHABLE)
async def test_store_unreachable(walk, store):
    await walk.form("a")
    await store.stop()
    await walk.blocked(Code.STORE_UNREACHABLE, "a", "start the store")
    await store.start()
    await walk.freed(Code.STORE_UNREACHABLE, "a")


@walks(Code.NO_MASTER)
async def test_no_master(walk, tmp_path):
    async with EmbeddedServer(tmp_path / "l1") as one, EmbeddedServer(tmp_path / "l2") as two:
        await walk.form("a", lock_servers=(one.url, two.url))
        await one.stop()
        await two.stop()
        await walk.blocked(Code.NO_MASTER, "a", "start the lock servers that are down")
        await one.start()
        await walk.freed(Code.NO_MASTER, "a")


@walks(Code.SUSPENDED)
async def test_suspended_because_the_lease_ended(walk, store):
    await walk.form("a", lease_s=1.0)
    await store.stop()
    await walk.blocked(Code.SUSPENDED, "a", "start the store")
    await store.start()
    await walk.freed(Code.SUSPENDED, "a")


@walks(Code.SUSPENDED)
async def test_suspended_because_it_is_too_new(walk):
    await walk.form("a", "b")
    await walk.again("a", "2.0", lowest_supported="2.0")
    await walk.blocked(Code.SUSPENDED, "a", "still supports 1.0", asked="a")
    await walk.again("a", "2.0", lowest_supported="1.0")
    await walk.freed(Code.SUSPENDED, "a", asked="a")


@walks(Code.SUSPENDED)
async def test_suspended_because_it_was_excluded(walk):
    await walk.form("a", "b")
    await walk.exclude("b")
    await walk.blocked(Code.SUSPENDED, "b", "start b again", asked="b")
    await walk.again("b", "1.0")
    await walk.freed(Code.SUSPENDED, "b", asked="b")


@walks(Code.SUSPENDED)
async def test_suspended_because_its_software_was_put_back(walk):
    await walk.form("a", installed="2.0")
    walk.nodes["a"].installed_changed("1.0")
    await walk.blocked(Code.SUSPENDED, "a", "supports 2.0", asked="a")
    walk.nodes["a"].installed_changed("2.0")
    await walk.freed(Code.SUSPENDED, "a", asked="a")


# --- a rollout ------------------------------------------------------------------------------------

STEPS = ("drain", "install", "restart", "verify", "undrain")


class Turns:
    """A program that installs what it is told; its step `at` fails or hangs, if so told."""

    def __init__(self, at="", error=None, steps=STEPS):
        self.at, self.error, self.steps = at, error, steps
        self.mended = asyncio.Event()

    def register(self, node):
        for step in self.steps:
            node.on_turn(step)(lambda context, node=node: self._run(node, context))

    async def _run(self, node, context):
        if context.step == self.at and not self.mended.is_set():
            if self.error is not None:
                raise self.error
            await self.mended.wait()
        if context.step == "install":
            node.installed_changed(context.version)


async def rolls(walk, *words, b=None, names=("a", "b"), **settings):
    """A rollout has begun; "a" is the master, and "b" has a program of its own."""
    others = Turns()
    for name in names:
        program = b if b is not None and name == "b" else others
        settings |= {"bootstrap_expect": len(names), "gossip": ""}
        await walk.start(name, "1.0", program.register, **settings)
        await walk.until(walk.has_master)
    for name in names:
        await walk.nodes[name].operating_now()
    await walk.command("upgrade", "start", "2.0", *words)
    return others


@walks(Code.ROLLOUT, Code.STEP_RUNS)
async def test_a_rollout_that_goes_on(walk):
    program = Turns("drain")
    await rolls(walk, b=program)
    await walk.blocked(Code.STEP_RUNS, "b", "wait", "start it again")
    await walk.blocked(Code.ROLLOUT, "", "wait", "peerupgrade upgrade abort")
    program.mended.set()
    await walk.freed(Code.STEP_RUNS, "b")
    await walk.freed(Code.ROLLOUT)
    await walk.data_is("2.0")


@walks(Code.STEP_RUNS)
@pytest.mark.parametrize("gone", [False, True])
async def test_a_member_whose_lease_ends_in_its_turn(walk, gone):
    program = Turns("install")
    await rolls(walk, b=program, lease_s=1.0)
    await walk.blocked(Code.STEP_RUNS, "b", "wait", "start it again")
    await walk.crash("b")
    program.mended.set()
    told = await walk.blocked(Code.STEP_RUNS, "b", "start b again", "exclude b --confirm-stopped")
    assert "its lease ended" in told.evidence
    if gone:
        await walk.obey(Code.STEP_RUNS, "b", command="exclude b --confirm-stopped --reason gone")
    else:
        await walk.start("b", "1.0", program.register, gossip="", lease_s=1.0)
        await walk.freed(Code.STEP_RUNS, "b")
    await walk.freed(Code.ROLLOUT)
    await walk.data_is("2.0")


@walks(Code.ROLLOUT)
async def test_a_rollout_that_is_aborted(walk):
    await rolls(walk, b=Turns("install", OSError("no disk")))
    await walk.blocked(Code.STEP_FAILED, "b")
    await walk.obey(Code.ROLLOUT, command="upgrade abort")


@walks(Code.ROLLBACK)
@pytest.mark.parametrize("aborted", [False, True])
async def test_rollback(walk, aborted):
    program = Turns("undrain")
    await rolls(walk, b=program)
    await walk.blocked(Code.STEP_RUNS, "b")
    await walk.command("upgrade", "abort", "--rollback")
    await walk.blocked(
        Code.ROLLBACK, "", "wait until every member has what it had", "peerupgrade upgrade abort"
    )
    if aborted:
        await walk.command("upgrade", "abort")
    program.mended.set()
    await walk.freed(Code.ROLLBACK)


@walks(Code.ROLLOUT_PAUSED)
async def test_rollout_paused(walk):
    await rolls(walk, "--canary", "1")
    await walk.obey(Code.ROLLOUT_PAUSED, command="upgrade resume")
    await walk.data_is("2.0")


@walks(Code.TURN_NOT_BEGUN)
@pytest.mark.parametrize("gone", [False, True])
async def test_turn_not_begun(walk, gone):
    programs = await rolls(walk, "--skip", "b")
    await walk.freed(Code.ROLLOUT)
    await walk.crash("b")
    await walk.command("upgrade", "start", "2.0")
    await walk.blocked(Code.TURN_NOT_BEGUN, "b", "start b again", "exclude it if it is gone")
    if gone:
        await walk.exclude("b")
    else:
        await walk.start("b", "1.0", programs.register, gossip="")
    await walk.freed(Code.TURN_NOT_BEGUN, "b")
    await walk.data_is("2.0")


@walks(Code.STEP_MANUAL)
async def test_step_manual(walk):
    await rolls(walk, b=Turns(steps=("drain",)))
    await walk.blocked(Code.STEP_MANUAL, "b", "install 2.0 on b", "peerupgrade upgrade skip b")
    walk.nodes["b"].installed_changed("2.0")
    await walk.freed(Code.STEP_MANUAL, "b")
    await walk.data_is("2.0")


@walks(Code.STEP_FAILED)
@pytest.mark.parametrize("command", ["upgrade retry b", "upgrade skip b"])
async def test_step_failed(walk, command):
    program = Turns("verify", RuntimeError("no answer"))
    await rolls(walk, b=program)
    assert "no answer" in (await walk.blocked(Code.STEP_FAILED, "b")).evidence
    if "retry" in command:
        program.mended.set()
    await walk.obey(Code.STEP_FAILED, "b", command=command)
    await walk.freed(Code.ROLLOUT)


@walks(Code.STEP_UNKNOWN)
@pytest.mark.parametrize("command", ["upgrade retry b", "upgrade skip b"])
async def test_step_unknown(walk, command):
    program = Turns("drain")
    await rolls(walk, b=program)
    await walk.blocked(Code.STEP_RUNS, "b")
    await walk.crash("b")
    program.mended.set()
    await walk.start("b", "1.0", program.register, gossip="")
    await walk.blocked(Code.STEP_UNKNOWN, "b", "look at b")
    await walk.obey(Code.STEP_UNKNOWN, "b", command=command)
    await walk.freed(Code.ROLLOUT)


@walks(Code.DRAINED)
@pytest.mark.parametrize("how", ["mend", "start"])
async def test_drained_because_its_undrain_failed(walk, how):
    program = Turns("undrain", RuntimeError("no answer"))
    await rolls(walk, "--failures", "1", b=program)
    remedy = ("mend what it reports: undrain is tried again by itself", "the agent of b is started")
    assert "no answer" in (await walk.blocked(Code.DRAINED, "b", *remedy)).evidence
    if how == "start":
        await walk.crash("b")
    program.mended.set()
    if how == "start":
        await walk.start("b", "2.0", program.register, gossip="")
    await walk.freed(Code.DRAINED, "b")
    await walk.freed(Code.ROLLOUT)


@walks(Code.MEMBER_DOWN)
@pytest.mark.parametrize("how", ["start", "skip", "exclude"])
async def test_member_down(walk, how):
    program = Turns("drain")
    programs = await rolls(walk, b=program, names=("a", "b", "c"))
    await walk.blocked(Code.STEP_RUNS, "b")
    await walk.stop("c")
    program.mended.set()
    await walk.blocked(
        Code.MEMBER_DOWN,
        "c",
        "start c again",
        "peerupgrade upgrade skip c",
        "exclude it if it is gone",
    )
    match how:
        case "start":
            await walk.start("c", "1.0", programs.register, gossip="")
        case "skip":
            await walk.command("upgrade", "skip", "c")
        case "exclude":
            await walk.exclude("c")
    await walk.freed(Code.MEMBER_DOWN, "c")


@walks(Code.SOAKING)
async def test_soaking(walk):
    await rolls(walk, "--soak", "1h")
    await walk.obey(Code.SOAKING, command="upgrade change --soak 0s")
    await walk.data_is("2.0")


@walks(Code.WINDOW_CLOSED)
async def test_window_closed(walk):
    in_two_days = datetime.now(UTC) + timedelta(days=2)
    await rolls(walk, "--window", f"{in_two_days:%a} 10:00-11:00")
    await walk.obey(Code.WINDOW_CLOSED, command="upgrade change --window 00:00-24:00")
    await walk.data_is("2.0")


@walks(Code.BAKING)
async def test_baking(walk):
    await rolls(walk, "--bake", "1h")
    await walk.obey(Code.BAKING, command="upgrade change --bake 0s")
    await walk.data_is("2.0")


class Probed(Turns):
    """A program that is probed; `ill`: it is not well."""

    ill = False

    def register(self, node):
        super().register(node)
        node.on_health(lambda: not self.ill, Probing(interval_s=0.05, failures=2))


@walks(Code.UNHEALTHY_BEFORE)
@pytest.mark.parametrize("how", ["mend", "skip"])
async def test_unhealthy_before(walk, how):
    program = Probed()
    await rolls(walk, "--skip", "b", b=program)
    await walk.freed(Code.ROLLOUT)
    program.ill = True

    async def ill():
        members = (await walk.nodes["a"].ledger()).snapshot.members
        return members["b"].health.state is HealthState.UNHEALTHY

    await walk.until(ill)
    await walk.command("upgrade", "start", "2.0")
    await walk.blocked(Code.UNHEALTHY_BEFORE, "b", "mend it", "peerupgrade upgrade skip b")
    if how == "mend":
        program.ill = False
    else:
        await walk.command("upgrade", "skip", "b")
    await walk.freed(Code.UNHEALTHY_BEFORE, "b")
    await walk.freed(Code.ROLLOUT)


@walks(Code.DRAINED)
@pytest.mark.parametrize("gone", [False, True])
async def test_drained_because_it_was_skipped_and_is_not_well(walk, gone):
    program = Probed("verify")
    await rolls(walk, b=program)
    await walk.blocked(Code.STEP_RUNS, "b")
    program.ill = True
    program.mended.set()
    await walk.command("upgrade", "skip", "b")
    await walk.blocked(Code.DRAINED, "b", "mend its program", "exclude b if it is gone")
    await walk.freed(Code.ROLLOUT)
    if gone:
        await walk.crash("b")
        await walk.exclude("b")
    else:
        program.ill = False
    await walk.freed(Code.DRAINED, "b")


@walks(Code.UNHEALTHY_AFTER)
@pytest.mark.parametrize("how", ["mend", "skip", "return"])
async def test_unhealthy_after(walk, how):
    program = Probed()
    await rolls(walk, "--soak", "1h", b=program)
    await walk.blocked(Code.SOAKING, "")
    program.ill = True
    command = {"skip": "upgrade skip b", "return": "upgrade abort --rollback"}.get(how)
    if command is not None:
        await walk.obey(Code.UNHEALTHY_AFTER, "b", command=command)
    else:
        await walk.blocked(Code.UNHEALTHY_AFTER, "b", "mend it, then: peerupgrade upgrade resume")
        program.ill = False
        await walk.freed(Code.UNHEALTHY_AFTER, "b")
        await walk.obey(Code.ROLLOUT_PAUSED, command="upgrade resume")
    program.ill = False
    await walk.command("upgrade", "change", "--soak", "0s")
    await walk.freed(Code.ROLLOUT)


@walks(Code.BUDGET_SPENT)
async def test_budget_spent(walk):
    await rolls(walk, "--skip", "b", names=("a", "b", "c"), b=Turns())
    await walk.freed(Code.ROLLOUT)
    await walk.command("slot", "take", "c", "--by", "a script")
    await walk.command("upgrade", "start", "2.0")
    await walk.blocked(Code.BUDGET_SPENT, "b", "whoever has a slot returns it")
    await walk.command("slot", "return", "c", "--by", "a script", "--unused")
    await walk.freed(Code.BUDGET_SPENT, "b")
    await walk.data_is("2.0")


async def test_every_code_is_walked_through():
    assert set(Code) == WALKED
