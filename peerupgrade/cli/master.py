"""The master: `master show`, `master resign`."""

from __future__ import annotations

from dataclasses import replace

from peerupgrade.cli.show import plain, print_json, print_message
from peerupgrade.cli.target import DEFAULT, Target, connect


def show(*, target: Target = DEFAULT) -> None:
    """Show which node decides, and the number of its mastership.

    For example:

        peerupgrade master show
    """
    cluster = connect(target).get("/v1/cluster")
    if target.as_json:
        print_json({key: cluster[key] for key in ("master", "epoch", "live", "note", "now")})
    else:
        print(f"{plain(cluster['master'])} (epoch {cluster['epoch']})")


def resign(*, target: Target = DEFAULT) -> None:
    """Hand mastership over to another node at once, for example before a machine goes down.

    Without --server or --node it asks the master, if that runs on this machine.

    For example:

        peerupgrade master resign
    """
    client = connect(target)
    if not target.server and not target.node:
        master = client.get("/v1/cluster")["master"]
        client = connect(replace(target, node=master))
    answer = client.post("/v1/resign", {})
    if target.as_json:
        print_json(answer)
    else:
        print_message("the master resigned; another node takes over")
