"""The command line.

Data goes to stdout, messages to stderr. Heavy libraries are imported where a command needs them, so
that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from peerupgrade.errors import ConfigError, ExitCode, PeerUpgradeError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError, Group

_HELP = """Upgrade a cluster node by node: it acts at the lowest version that is
installed anywhere, and at the new one by itself once the last node has it.

  peerupgrade demo                             a first look
  peerupgrade node --name n1 --installed 1.0   run a node
  peerupgrade status                           then, on the same machine
  peerupgrade why                              what the upgrade waits for
"""

EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "it failed, for a reason that no other code names",
    ExitCode.USAGE: "the command line, a setting or the token is wrong",
    ExitCode.REFUSED: "the cluster refused: a version, a name or a rule",
    ExitCode.NOT_SETTLED: "the cluster answers, and something stands in the way (why, doctor)",
    ExitCode.UNAVAILABLE: "the store or the node does not answer",
    ExitCode.NOT_FOUND: "nothing matches",
    ExitCode.INTERNAL: "a defect of peerupgrade",
    ExitCode.INTERRUPTED: "interrupted",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The exit code.
    """
    from cyclopts import CycloptsError

    words = list(sys.argv[1:] if argv is None else argv)
    try:
        result = _app()(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(error.command_chain or ())
        hint = f"peerupgrade {command} --help".replace("  ", " ")
        return _complain(ConfigError(_sentence(error), hint=hint))
    except PeerUpgradeError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except Exception as error:  # noqa: BLE001 - the last resort: one line instead of a traceback
        return _defect(error)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _way_back(group: Group) -> App:
    from cyclopts import App

    from peerupgrade.cli import downgrade

    back = App(
        name="downgrade", group=group, help="The way back to an older version.", help_epilogue=""
    )
    back.command(downgrade.plan)
    back.command(downgrade.start)
    return back


def _app() -> App:
    from cyclopts import App, Group

    from peerupgrade.cli import data, keyring, rollout, upgrade
    from peerupgrade.cli.cluster import history, status, why
    from peerupgrade.cli.demo import demo
    from peerupgrade.cli.deploy import can_deploy
    from peerupgrade.cli.doctor import doctor
    from peerupgrade.cli.explore import explore
    from peerupgrade.cli.hold import hold, release
    from peerupgrade.cli.master import resign, show
    from peerupgrade.cli.members import exclude, members
    from peerupgrade.cli.node import node
    from peerupgrade.cli.sim import sim
    from peerupgrade.cli.slot import give_back, take
    from peerupgrade.cli.topology import topology
    from peerupgrade.cli.watch import watch

    codes = "\n".join(f"  {code.value:>3}  {text}" for code, text in EXIT_CODES.items())
    app = App(
        name="peerupgrade",
        help=_HELP,
        help_epilogue=f"Exit codes:\n\n{codes}\n\nPEERUPGRADE_DEBUG=1 shows tracebacks.",
        help_format="plaintext",
        version=_version,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    run = Group.create_ordered("Run")
    look = Group.create_ordered("Look")
    change = Group.create_ordered("Change")
    groups: tuple[tuple[Group, tuple[Callable[..., object], ...]], ...] = (
        (run, (node, demo, sim, explore)),
        (look, (status, members, topology, why, watch, history, doctor, can_deploy)),
        (change, (hold, release, exclude)),
    )
    for group, commands in groups:
        for command in commands:
            app.command(command, group=group, help_epilogue="")
    master = App(
        name="master", group=change, help="Who decides, and handing that over.", help_epilogue=""
    )
    master.command(show)
    master.command(resign)
    app.command(master)
    slot = App(
        name="slot", group=change, help="The permission to take a node down.", help_epilogue=""
    )
    slot.command(take)
    slot.command(give_back, name="return")
    app.command(slot)
    shared = App(
        name="data", group=change, help="Shared data and its conversion.", help_epilogue=""
    )
    for command in (data.show, data.pause, data.resume, data.retry, data.skip, data.delete):
        shared.command(command)
    app.command(shared)
    app.command(keyring.keygen, group=change, help_epilogue="")
    keys = App(name="keyring", group=change, help="The keys of gossip.", help_epilogue="")
    keys.command(keyring.list_, name="list")
    for change_keys in (keyring.add, keyring.use, keyring.remove):
        keys.command(change_keys)
    app.command(keys)
    app.command(_way_back(change))
    upgrading = App(
        name="upgrade",
        group=change,
        help="An upgrade: before it happens, and driven by the cluster.",
        help_epilogue="",
    )
    for command in (upgrade.plan, upgrade.rehearse):
        upgrading.command(command)
    for command in (
        rollout.start,
        rollout.change,
        rollout.status,
        rollout.pause,
        rollout.resume,
        rollout.retry,
        rollout.abort,
    ):
        upgrading.command(command)
    upgrading.command(rollout.skip_, name="skip")
    app.command(upgrading)
    app["--help"].group = app["--version"].group = Group.create_ordered("About")
    return app


def _sentence(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith("...") else text.removesuffix(".")


def _version() -> str:
    from importlib.metadata import version

    return version("peerupgrade")


def _debugging() -> bool:
    return os.environ.get("PEERUPGRADE_DEBUG", "") not in ("", "0")


def _complain(error: PeerUpgradeError) -> int:
    if _debugging():
        sys.excepthook(type(error), error, error.__traceback__)
    print(f"peerupgrade: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code


def _defect(error: Exception) -> int:
    if _debugging():
        sys.excepthook(type(error), error, error.__traceback__)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"peerupgrade: a defect of peerupgrade, please report it: {text}:"
        " PEERUPGRADE_DEBUG=1 shows where",
        file=sys.stderr,
    )
    return ExitCode.INTERNAL
