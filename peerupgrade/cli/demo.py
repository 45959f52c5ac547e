"""The demonstration: `demo`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

_COUNT = Number(gte=2, lte=50)


def _switch(text: str) -> Parameter:
    return Parameter(negative="", show_default=False, help=text)


def demo(
    *,
    nodes: Annotated[int, Parameter(validator=_COUNT, help="how many.")] = 5,
    json: Annotated[bool, _switch("one JSON object at the end.")] = False,
    kill_master: Annotated[bool, _switch("kill the master in the middle.")] = False,
    keep: Annotated[bool, _switch("leave the cluster running until interrupted.")] = False,
    manual: Annotated[bool, _switch("replace the software from outside, node by node.")] = False,
) -> int:
    """Upgrade a small cluster on this machine, node by node, and show what happens.

    The cluster drives it, by `upgrade start`; with --manual somebody else replaces
    the software, and the cluster only notices.

    For example:

        peerupgrade demo --nodes 7 --kill-master
    """
    from peerupgrade.demo.run import run_demo

    return run_demo(nodes=nodes, as_json=json, kill_master=kill_master, keep=keep, manual=manual)
