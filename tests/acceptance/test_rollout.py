"""A rollout through real agents, driven by real commands."""

import signal

import pytest

from peerupgrade.errors import ExitCode
from tests.acceptance.agents import eventually
from tests.acceptance.strikes import STEPS, STRIKES, struck

pytestmark = pytest.mark.asyncio


def commands(agents, name, **others):
    """Each step writes down that it ran; what is installed is in the file of the agent."""
    told, version = agents.directory / f"{name}.steps", agents.directory / f"{name}.version"
    script = f'echo "$PEERUPGRADE_STEP $PEERUPGRADE_VERSION $PEERUPGRADE_BEFORE" >> {told}'
    found = {f"{step}_command": f"sh -c '{script}'" for step in STEPS}
    install = f'{script}; echo "$PEERUPGRADE_VERSION" > {version}; echo installed it'
    return found | {"install_command": f"sh -c '{install}'"} | others


async def form(agents, *names, **others):
    for name in names:
        agents.start(
            name, bootstrap_expect=str(len(names)), **commands(agents, name, **others.get(name, {}))
        )
    await agents.formed(*names)


def steps(agents, name):
    path = agents.directory / f"{name}.steps"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


async def ended(agents, asked):
    _, answer, _ = await agents.ask(asked, "upgrade", "status")
    return answer if answer is not None and answer["rollout"] is None else None


async def test_a_rollout_walks_through_all_nodes_and_the_master_is_the_last(agents):
    await form(agents, "a", "b", "c")
    code, answer, said = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.OK, said
    assert answer["ended"]["outcome"] == "done"
    for name in "abc":
        assert steps(agents, name) == list(STEPS)
    assert (agents.directory / "b.steps").read_text().split()[:3] == ["drain", "2.0", "1.0"]
    assert (await agents.members("a"))["c"]["installed"] == "2.0"


async def test_what_a_plan_says_is_what_happens(agents):
    zones = {"a": "east", "b": "west", "c": "west", "d": "east", "e": "west"}
    await form(agents, *zones, **{name: {"zone": zone} for name, zone in zones.items()})
    how = ("--budget", "2", "--one-zone", "--canary", "1")

    async def planned():  # all may not have confirmed yet that they operate
        code, plan, _ = await agents.ask("a", "upgrade", "plan", "2.0", *how)
        return plan if code == ExitCode.OK else None

    plan = await eventually(planned)
    assert (plan["ok"], plan["turn_s"]) == (True, None)
    await agents.ask("b", "upgrade", "start", "2.0", *how)

    async def looked_at():
        _, answer, _ = await agents.ask("a", "upgrade", "status")
        return answer and answer["rollout"]["pause"]

    assert (await eventually(looked_at, 40))["by"] == "canary"
    code, answer, said = await agents.ask("a", "upgrade", "resume", "--wait")
    assert (code, answer["ended"]["outcome"]) == (ExitCode.OK, "done"), said
    _, history, _ = await agents.ask("a", "history", "--count", "1000")
    told = [(one["kind"], one["inputs"].partition(" ")[0]) for one in reversed(history["entries"])]
    told = [(kind, name) for kind, name in told if kind in ("turn given", "rollout paused")]
    after_canary = told.index(("rollout paused", "1"))
    given = [name for kind, name in told if kind == "turn given"]
    batches = plan["batches"]
    assert given == [name for batch in batches for name in batch["nodes"]]
    assert (given[:after_canary], batches[1]["after"]) == (batches[0]["nodes"], "resume")
    _, again, _ = await agents.ask("a", "upgrade", "plan", "3.0", *how)
    assert 0 < again["turn_s"] < again["lasts_s"]


async def test_a_plan_is_no_go_while_a_node_does_not_answer(agents):
    await form(agents, "a", "b", "c")
    agents.signal("c", signal.SIGSTOP)

    async def refused():
        code, plan, _ = await agents.ask("a", "upgrade", "plan", "2.0")
        if code != ExitCode.NOT_SETTLED:
            return None
        named = [(one["code"], one["subject"]) for one in plan["in_the_way"]]
        return plan if named == [("unresponsive", "c")] else None  # c may have been the master

    plan = await eventually(refused)
    assert [one["answers"] for one in plan["order"] if one["name"] == "c"] == [False]
    agents.signal("c", signal.SIGCONT)

    async def goes():
        return (await agents.ask("a", "upgrade", "plan", "2.0"))[0] == ExitCode.OK

    await eventually(goes)


def with_script(agents, name, step, script, *, first):
    """The command of a step, and a script before or after it."""
    work = commands(agents, name)[f"{step}_command"].removeprefix("sh -c '").removesuffix("'")
    both = f"{script}; {work}" if first else f"{work}; {script}"
    return {f"{step}_command": f"sh -c '{both}'"}


# On the way to the version each of one victim, in turns before and after the work of the step; and
# a few of those as the node leaves and returns, and on the way back. All: `scripts/strikes`.
FEW = {
    (("node",), "leave", "there"),
    (("store",), "return", "there"),
    (("node",), "install", "back"),
    (("master",), "verify", "back"),
    (("node", "store"), "undrain", "back"),
    (("node", "master"), "return", "back"),
}
HERE = [
    one
    for one in STRIKES[: len(STRIKES) // 2]
    if (len(one.victims) == 1 and one.step in STEPS and one.way == "there")
    or (one.victims, one.step, one.way) in FEW
]


@pytest.mark.parametrize("strike", HERE, ids=str)
async def test_a_rollout_goes_on_and_runs_no_step_twice_after_something_was_killed(
    strike, tmp_path
):
    assert await struck(strike, tmp_path) == []


async def test_a_step_that_fails_is_shown_and_somebody_says_how_it_goes_on(agents):
    broken = {"verify_command": "sh -c 'echo no answer on port 8000; exit 7'"}
    await form(agents, "a", "b", "c", b=broken)
    code, answer, _ = await agents.ask("c", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.NOT_SETTLED
    (failed,) = [one for one in answer["blockers"] if one["code"] == "step_failed"]
    assert failed["subject"] == "b"
    assert "failed with status 7: no answer on port 8000" in failed["evidence"]
    assert "peerupgrade upgrade retry b" in failed["remedy"]
    code, _, _ = await agents.ask("a", "upgrade", "resume")
    assert code == ExitCode.REFUSED
    code, answer, said = await agents.ask("a", "upgrade", "skip", "b", "--wait", "--by", "ann")
    assert code == ExitCode.OK, said
    assert answer["ended"]["skipped"] == ["b"]
    assert (await agents.members("a"))["b"]["standing"] == "serving"
    _, history, _ = await agents.ask("a", "history")
    assert ("b skipped", "ann") in [(one["kind"], one["by"]) for one in history["entries"]]


async def test_what_an_install_left_there_that_failed_counts_and_runs_before_the_node_returns(
    agents,
):
    half = with_script(agents, "b", "install", "exit 7", first=False)
    await form(agents, "a", "b", b=half)
    code, _, said = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.NOT_SETTLED, said
    code, _, said = await agents.ask("a", "upgrade", "skip", "b", "--wait")
    assert code == ExitCode.OK, said
    assert steps(agents, "b") == ["drain", "install", "restart", "undrain"]
    assert (await agents.members("a"))["b"]["installed"] == "2.0"


async def test_where_no_command_installs_a_person_does(agents):
    by_hand = {"install_command": ""}
    await form(agents, "a", "b", b=by_hand)
    await agents.ask("a", "upgrade", "start", "2.0")

    async def waits():
        _, answer, _ = await agents.ask("a", "why")
        return any(
            (one["code"], one["subject"]) == ("step_manual", "b") for one in answer["blockers"]
        )

    await eventually(waits)
    agents.install("b", "2.0")
    answer = await eventually(lambda: ended(agents, "a"), 40)
    assert answer["ended"]["outcome"] == "done"
    assert steps(agents, "b") == ["drain", "restart", "verify", "undrain"]


async def test_a_rollout_is_rolled_back_as_long_as_the_acting_version_has_not_risen(agents):
    broken = {"verify_command": "false"}
    await form(agents, "a", "b", "c", c=broken)
    _, answer, _ = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert [one["subject"] for one in answer["blockers"] if one["code"] == "step_failed"] == ["c"]
    code, answer, said = await agents.ask("a", "upgrade", "abort", "--rollback", "--wait")
    if code != ExitCode.OK:  # its verify fails on the way back, too
        assert [one["code"] for one in answer["blockers"] if one["subject"] == "c"] == [
            "step_failed"
        ]
        code, answer, said = await agents.ask("a", "upgrade", "skip", "c", "--wait")
    assert code == ExitCode.OK, said
    assert answer["ended"]["outcome"] == "rolled back"
    assert {one["installed"] for one in (await agents.members("a")).values()} == {"1.0"}
    _, why, _ = await agents.ask("a", "why")
    assert why["blockers"] == []


def well_with(agents, name, version, while_true="false"):
    """Probes that fail with any other version, unless a command succeeds."""
    path = agents.directory / f"{name}.version"
    well = f"{while_true} || grep -qx {version} {path}"
    return {
        "health_command": f"sh -c '{well} || (echo no database >&2; exit 1)'",
        "health_interval_s": "0.2",
        "health_failures": "2",
        "step_timeout_s": "8",
    }


async def test_a_release_whose_probes_fail_is_rolled_back_by_itself_and_nothing_acts_at_it(agents):
    await form(agents, "a", "b", "c", **{name: well_with(agents, name, "1.0") for name in "abc"})
    code, answer, said = await agents.ask(
        "a", "upgrade", "start", "2.0", "--on-unhealthy", "all", "--wait"
    )
    assert code == ExitCode.NOT_SETTLED, said
    assert answer["ended"]["outcome"] == "rolled back"
    assert "not healthy within 8 s" in answer["ended"]["cause"]
    assert "no database" in answer["ended"]["cause"]
    members = await agents.members("a")
    assert {one["installed"] for one in members.values()} == {"1.0"}
    assert {one["operating"] for one in members.values()} == {"1.0"}
    (first,) = [name for name in "abc" if steps(agents, name)]
    assert steps(agents, first).count("install") == 2
    assert steps(agents, first).count("undrain") == 1  # only with what it had
    _, history, _ = await agents.ask("a", "history")
    assert {one["after"] for one in history["entries"]} <= {None, "1.0"}
    _, why, _ = await agents.ask("a", "why")
    assert why["blockers"] == []


async def test_a_skipped_node_gets_requests_again_as_soon_as_its_program_is_well(agents):
    mended = agents.directory / "mended"
    await form(agents, "a", "b", "c", b=well_with(agents, "b", "1.0", f"[ -e {mended} ]"))
    code, _, said = await agents.ask("a", "upgrade", "start", "2.0", "--wait")
    assert code == ExitCode.NOT_SETTLED, said
    code, _, said = await agents.ask("a", "upgrade", "skip", "b", "--wait")
    assert code == ExitCode.OK, said
    _, why, _ = await agents.ask("a", "why")
    (told,) = why["blockers"]
    assert (told["code"], told["subject"]) == ("drained", "b")
    assert "its probes fail" in told["evidence"]
    assert "undrain" not in steps(agents, "b")
    mended.touch()
    await eventually(lambda: _blockers_gone(agents))
    assert steps(agents, "b") == list(STEPS)


async def _blockers_gone(agents):
    _, why, _ = await agents.ask("a", "why")
    return why is not None and why["blockers"] == []


async def test_a_node_that_is_unhealthy_before_its_turn_is_told_apart(agents):
    await form(agents, "a", "b", "c", b=well_with(agents, "b", "9.9"))

    async def is_ill():
        found = await agents.members("a")
        return (found["b"]["health"] or {}).get("state") == "unhealthy"

    await eventually(is_ill)
    await agents.ask("a", "upgrade", "start", "2.0", "--on-unhealthy", "all")
    _, why, _ = await agents.ask("a", "why")
    (told,) = [one for one in why["blockers"] if one["code"] == "unhealthy_before"]
    assert (told["subject"], "no database" in told["evidence"]) == ("b", True)
    code, answer, said = await agents.ask("a", "upgrade", "skip", "b", "--wait")
    assert code == ExitCode.OK, said
    assert answer["ended"]["outcome"] == "done"
    assert answer["ended"]["skipped"] == ["b"]


async def test_what_turns_out_to_be_bad_while_it_bakes_returns_by_itself(agents):
    bad = agents.directory / "bad"
    well = {name: well_with(agents, name, "1.0", f"[ ! -e {bad} ]") for name in "abc"}
    await form(agents, "a", "b", "c", **well)
    how = ("--bake", "1h", "--on-unhealthy", "all")
    code, _, said = await agents.ask("a", "upgrade", "start", "2.0", *how)
    assert code == ExitCode.OK, said

    async def bakes():
        _, why, _ = await agents.ask("a", "why")
        return why is not None and "baking" in {one["code"] for one in why["blockers"]}

    await eventually(bakes, 40)
    members = await agents.members("a")
    assert {one["installed"] for one in members.values()} == {"2.0"}
    assert {one["operating"] for one in members.values()} == {"1.0"}
    bad.touch()
    answer = await eventually(lambda: ended(agents, "a"), 60)
    assert answer["ended"]["outcome"] == "rolled back"
    assert {one["installed"] for one in (await agents.members("a")).values()} == {"1.0"}
    _, history, _ = await agents.ask("a", "history")
    assert {one["after"] for one in history["entries"]} <= {None, "1.0"}
