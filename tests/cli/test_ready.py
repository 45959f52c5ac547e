"""Ready-made steps of a turn: how they are found, and what those do that come along."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from peerupgrade.cli.ready import make_ready, ready_installed, ready_steps
from peerupgrade.cli.ready.pip import Pip
from peerupgrade.cli.ready.systemd import Systemd
from peerupgrade.cli.sources import Extra, resolve
from peerupgrade.cli.turns import turn_commands
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.turns import TurnContext


def context(step, version="2.0", before="1.0"):
    return TurnContext(step, version, before, 1)


# --- how they are found ---------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A package of somebody else's that is installed."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[peerupgrade.steps]\ntheirs = theirs_steps:Steps\nbroken = no_such_module:Steps\n"
    )
    (tmp_path / "theirs_steps.py").write_text(
        "import asyncio\n"
        "class Steps:\n"
        "    def __init__(self, options): self.options = options\n"
        "    def installed(self): return self.options['version']\n"
        "    async def restart(self, context): return f'{context.step} to {context.version}'\n"
        "    async def verify(self, context): await asyncio.sleep(60)\n"
        "    def look(self, context): return context.step == 'restart'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("theirs_steps", None)


def test_an_unknown_name_says_what_is_there(theirs):
    with pytest.raises(ConfigError, match=r"no ready-made steps 'pop': there are .*pip.*systemd"):
        make_ready(["pop"])


@pytest.mark.parametrize("word", ["", "pip.venv", "pip=x", ".venv=x", "pip.=x"])
def test_a_word_of_another_form_is_refused(word):
    with pytest.raises(ConfigError, match=r"give NAME or NAME\.OPTION=VALUE"):
        make_ready([word])


def test_one_that_cannot_be_loaded_says_from_where(theirs):
    with pytest.raises(ConfigError, match="'broken' cannot be loaded from no_such_module:Steps"):
        make_ready(["broken"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pip.package=x"], r"'pip' need 'venv': give pip\.venv=VALUE"),
        (["pip.venv=x", "pip.pack=x"], "no option 'pack': there are package, venv"),
        (["systemd.unit=x", "systemd.user=maybe"], "give yes or no"),
        (["systemd.unit=x", "systemd.drain_signal=USR1"], "is given alone"),
    ],
)
def test_options_that_cannot_be_used_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        make_ready(words)


@pytest.mark.asyncio
async def test_those_of_others_are_found_by_their_name_and_get_their_options(theirs):
    made = make_ready(["theirs.version=1.5", "theirs.path=/a=b"])
    assert made["theirs"].options == {"version": "1.5", "path": "/a=b"}
    assert ready_installed(made)() == "1.5"
    steps = ready_steps(made, {}, 60.0)
    assert list(steps) == ["restart", "verify"]
    run, look = steps["restart"]
    assert await run(context("restart")) == "restart to 2.0"
    assert look(context("restart")) is True


@pytest.mark.asyncio
async def test_a_ready_made_step_has_the_time_limit_of_a_command(theirs):
    run, _ = ready_steps(make_ready(["theirs"]), {}, 0.05)["verify"]
    with pytest.raises(ConfigError, match=r"verify of steps 'theirs' did not end within 0\.05 s"):
        await run(context("verify"))


@pytest.mark.asyncio
async def test_a_command_comes_before_a_ready_made_step(theirs):
    commands = turn_commands(Extra(restart_command="echo by command"))
    run, _ = ready_steps(make_ready(["theirs"]), commands, 60.0)["restart"]
    assert await run(context("restart")) == "by command"


def test_two_that_give_the_same_step_are_refused(theirs):
    with pytest.raises(ConfigError, match="theirs and systemd both have 'restart'"):
        ready_steps(make_ready(["theirs", "systemd.unit=x"]), {}, 60.0)


def test_a_table_says_the_same_as_words(tmp_path, monkeypatch):
    (tmp_path / "node.toml").write_text('[steps.pip]\npackage = "x"\nvenv = "/v"\n[steps.other]\n')
    extra = resolve({}, str(tmp_path / "node.toml")).extra
    assert extra.steps == ("pip", "pip.package=x", "pip.venv=/v", "other")
    monkeypatch.setenv("PEERUPGRADE_STEPS", "pip.package=x pip.venv=/v other")
    assert resolve({}, None).extra.steps == ("pip.package=x", "pip.venv=/v", "other")


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "node.toml").write_text('[steps]\npip = "x"\n')
    with pytest.raises(ConfigError, match=r"pip = 'x': give \[steps\.pip\]"):
        resolve({}, str(tmp_path / "node.toml"))


# --- pip ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment, with pip."""
    path = tmp_path_factory.mktemp("pip") / "venv"
    venv.create(path, with_pip=True, symlinks=True)
    return path


_FILES = 1500  # so many that pip takes a while, none of which Python compiles


def put_wheel(directory, version):
    """A release; pip comes to its metadata first, and to what says that it is complete last."""
    info, files = f"toy-{version}.dist-info", [f"toy_data/{version}-{n}" for n in range(_FILES)]
    with zipfile.ZipFile(directory / f"toy-{version}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: toy\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        form = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", form)
        for name in files:
            wheel.writestr(name, version)
        wheel.writestr("toy.py", f"release = '{version}'\n")
        named = ["toy.py", f"{info}/METADATA", f"{info}/WHEEL", *files]
        wheel.writestr(
            f"{info}/RECORD", "".join(f"{one},,\n" for one in named) + f"{info}/RECORD,,"
        )


@pytest.fixture
def toy(environment, tmp_path, monkeypatch):
    """The steps for a package with two releases, of which the older is installed."""
    for version in ("1.0", "2.0"):
        put_wheel(tmp_path, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip = Pip({"package": "toy", "venv": str(environment)})
    asyncio.run(pip.install(context("install", "1.0", "0")))
    yield pip
    (environment / ".peerupgrade-installs").unlink(missing_ok=True)


def installed(pip):
    return asyncio.run(pip.installed())


def looked(pip, version="2.0"):
    return asyncio.run(pip.look(context("install", version)))


def code(environment):
    (found,) = environment.glob("lib/python3*/site-packages/toy.py")
    return found


def test_pip_installs_the_version_of_the_turn_and_back(toy, environment):
    assert installed(toy) == "1.0"
    assert asyncio.run(toy.install(context("install"))).startswith("toy==2.0 in ")
    assert (installed(toy), code(environment).read_text()) == ("2.0", "release = '2.0'\n")
    assert looked(toy)
    asyncio.run(toy.install(context("install", "1.0", "2.0")))
    assert (installed(toy), looked(toy)) == ("1.0", False)


def test_a_release_that_is_not_there_leaves_everything_as_it_was(toy):
    with pytest.raises(ConfigError, match=r"pip install toy==3\.0 failed with status 1 .*No match"):
        asyncio.run(toy.install(context("install", "3.0")))
    assert (installed(toy), looked(toy, "1.0")) == ("1.0", True)


def complete(environment, version):
    """One release is there, and its own pip agrees; of the files of another one nobody knows."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    assert [one.name for one in packages.glob("toy-*.dist-info")] == [f"toy-{version}.dist-info"]
    assert (packages / "toy.py").read_text() == f"release = '{version}'\n"
    assert len(list((packages / "toy_data").glob(f"{version}-*"))) == _FILES
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "check"], check=True, capture_output=True)
    return not (environment / ".peerupgrade-installs").exists()


async def killed(pip, environment, version, before):
    """SIGKILL to pip while it puts the files of a release in place; gives what the step said."""
    (data,) = environment.glob("lib/python3*/site-packages/toy_data")
    for stale in data.glob(f"{version}-*"):
        stale.unlink()
    working = asyncio.create_task(pip.install(context("install", version, before)))
    while not list(data.glob(f"{version}-*")):
        await asyncio.sleep(0)
        assert not working.done()
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ConfigError) as failed:
        await working
    return str(failed.value)


def children():
    """The processes that this one has started and that run."""
    stats = [path.read_text().rpartition(")") for path in Path("/proc").glob("[0-9]*/stat")]
    found = [(int(left.split()[0]), right.split()) for left, _, right in stats]
    return [
        one for one, (state, parent, *_) in found if int(parent) == os.getpid() and state != "Z"
    ]


_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@_LINUX
@pytest.mark.parametrize(("version", "before"), [("2.0", "1.0"), ("1.0", "2.0")])
def test_what_a_killed_pip_left_half_done_is_taken_back(toy, environment, version, before):
    if before == "2.0":
        asyncio.run(toy.install(context("install")))
    said = asyncio.run(killed(toy, environment, version, before))
    assert "failed with status -9" in said
    assert complete(environment, before)
    assert (installed(toy), looked(toy, version)) == (before, False)
    asyncio.run(toy.install(context("install", version, before)))
    assert (installed(toy), looked(toy, version)) == (version, True)
    assert complete(environment, version)


@_LINUX
def test_what_cannot_be_put_back_counts_as_what_was_before_and_the_next_install_goes_over_it(
    toy, environment, tmp_path
):
    (tmp_path / "toy-1.0-py3-none-any.whl").unlink()
    said = asyncio.run(killed(toy, environment, "2.0", "1.0"))
    assert f"removes {environment}/.peerupgrade-installs" in said
    assert (installed(toy), looked(toy)) == ("1.0", False)
    asyncio.run(toy.install(context("install")))
    assert (installed(toy), looked(toy)) == ("2.0", True)
    assert complete(environment, "2.0")


def test_a_pip_that_was_killed_is_not_believed_although_the_version_before_seems_to_be_there(
    tmp_path,
):
    info = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "RECORD").touch()
    dies = tmp_path / "venv" / "bin" / "python"
    dies.parent.mkdir()
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o700)
    pip = Pip({"package": "toy", "venv": str(tmp_path / "venv")})
    with pytest.raises(ConfigError, match="failed with status -9"):
        asyncio.run(pip.install(context("install")))
    assert (tmp_path / "venv" / ".peerupgrade-installs").read_text() == "1.0"
    assert (installed(pip), looked(pip, "1.0")) == ("1.0", False)


async def cut_short(pip, environment):
    """The agent ends, or a time limit, while pip puts the files of a release in place."""
    (data,) = environment.glob("lib/python3*/site-packages/toy_data")
    for stale in data.glob("2.0-*"):
        stale.unlink()
    working = asyncio.create_task(pip.install(context("install")))
    while not list(data.glob("2.0-*")):
        await asyncio.sleep(0)
        assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.parametrize("asked", [installed, looked])
def test_the_next_agent_takes_back_what_was_cut_short(toy, environment, asked):
    asyncio.run(cut_short(toy, environment))
    assert (environment / ".peerupgrade-installs").read_text() == "1.0"
    after = Pip({"package": "toy", "venv": str(environment)})
    assert asked(after) in ("1.0", False)
    assert complete(environment, "1.0")
    assert installed(after) == "1.0"


def test_while_pip_works_what_was_before_is_installed_and_no_second_one_begins(toy, environment):
    async def asks_meanwhile():
        working = asyncio.create_task(toy.install(context("install")))
        while not (environment / ".peerupgrade-installs").exists():
            await asyncio.sleep(0)
        asked = await toy.installed()
        assert not working.done()
        await working
        return asked

    assert asyncio.run(asks_meanwhile()) == "1.0"
    assert installed(toy) == "2.0"


def test_what_is_not_there_has_no_version(environment):
    with pytest.raises(ConfigError, match=r"'nothing' is not installed in .*: begin with: python3"):
        installed(Pip({"package": "nothing", "venv": str(environment)}))


# --- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A program of this name that says what it was asked; `state` has the state of the unit."""
    program = tmp_path / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase "$*" in\n'
        f"*is-active*) now=$(cat {tmp_path}/state); echo $now;\n"
        f"  test -e {tmp_path}/fails && echo failed > {tmp_path}/state; test $now = active;;\n"
        f"*start*) echo active > {tmp_path}/state;;\nesac\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "state").write_text("inactive\n")
    return lambda: (tmp_path / "asked").read_text().splitlines()


@pytest.mark.asyncio
async def test_a_unit_is_stopped_started_and_looked_at(systemctl):
    unit = Systemd({"unit": "myapp.service"})
    with pytest.raises(ConfigError, match=r"is-active myapp\.service failed .*: inactive"):
        await unit.verify(context("verify"))
    await unit.restart(context("restart"))
    assert systemctl()[1:] == ["stop myapp.service", "start myapp.service"]
    assert await unit.verify(context("verify")) == "myapp.service is active"
    assert unit.look(context("restart")) is False
    assert list(ready_steps({"systemd": unit}, {}, 60.0)) == ["restart", "verify"]


@pytest.mark.asyncio
async def test_a_unit_that_does_not_stay_active_is_not_well(systemctl, tmp_path):
    unit = Systemd({"unit": "myapp.service"})
    await unit.restart(context("restart"))
    (tmp_path / "fails").touch()  # once it was looked at
    with pytest.raises(ConfigError, match="failed with status 1: failed"):
        await unit.verify(context("verify"))


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="there is no systemctl")
def test_the_systemctl_of_this_machine_knows_the_option():
    """It names what it does not know before it looks for a manager, which may not be there."""
    asked = ["systemctl", "--user", "kill", "--kill-who=main", "--signal=USR1", "no-such.service"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "unrecognized option" not in ran.stderr
    asked[3] = "--kill-nobody=main"
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "unrecognized option" in ran.stderr


@pytest.mark.asyncio
async def test_a_unit_of_a_user_may_be_drained_by_a_signal(systemctl):
    options = {"unit": "x", "user": "yes", "drain_signal": "USR1", "undrain_signal": "USR2"}
    unit = Systemd(options)
    for step in ("drain", "undrain"):
        run, look = ready_steps({"systemd": unit}, {}, 60.0)[step]
        await run(context(step))
        assert look(context(step)) is None
    assert systemctl() == [
        "--user kill --kill-who=main --signal=USR1 x",
        "--user kill --kill-who=main --signal=USR2 x",
    ]
