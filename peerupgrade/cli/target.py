"""Which node a command asks, and the options that all such commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from peerupgrade.cli.client import Client, NotFoundError
from peerupgrade.errors import ConfigError, UnavailableError
from peerupgrade.http.discovery import Running, find


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The shared options.

    Attributes:
        server: URL of the node to ask; by default one that runs on this machine as this user.
        cluster: ask a node of this cluster.
        node: ask the node of this name.
        output: a table for people, or JSON for programs.
        json: the same as --output json.
    """

    server: Annotated[str, Parameter(env_var="PEERUPGRADE_SERVER", show_default=False)] = ""
    cluster: Annotated[str, Parameter(show_default=False)] = ""
    node: Annotated[str, Parameter(show_default=False)] = ""
    output: Annotated[Literal["table", "json"], Parameter(name=("--output", "-o"))] = "table"
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False

    @property
    def as_json(self) -> bool:
        """True if a program reads the output."""
        return self.json or self.output == "json"


DEFAULT = Target()


def connect(target: Target) -> Client:
    """Find the node to ask, and the token for it.

    The token is never an option, because options are visible to every user of the machine.

    Raises:
        UnavailableError: no node runs here.
        NotFoundError: none of those that run here was meant.
        ConfigError: nodes of several clusters could be meant.
    """
    token = os.environ.get("PEERUPGRADE_TOKEN", "")
    if not target.server:
        chosen = _choose(find(), target)
        return Client(chosen.url, token or chosen.token, chosen.cluster)
    if token:  # nothing on this machine matters then
        return Client(target.server, token)
    for running in find():
        if running.url == target.server:
            return Client(running.url, running.token, running.cluster)
    return Client(target.server, "")


def _choose(running: list[Running], target: Target) -> Running:
    """Any node can answer for its cluster, so only the cluster must be clear."""
    if not running:
        raise UnavailableError(
            "no node runs on this machine as this user",
            hint="start one with peerupgrade node, or give --server or PEERUPGRADE_SERVER",
        )
    meant = [
        one
        for one in running
        if target.cluster in ("", one.cluster) and target.node in ("", one.name)
    ]
    if not meant:
        found = ", ".join(f"{one.name} of {one.cluster}" for one in running)
        raise NotFoundError("no such node runs on this machine", hint=f"these do: {found}")
    clusters = sorted({one.cluster for one in meant})
    if len(clusters) > 1:
        raise ConfigError(
            f"nodes of several clusters run here: {', '.join(clusters)}",
            hint="choose with --cluster",
        )
    return meant[0]
