"""What is shown while the demo runs: a live table on a terminal, else lines on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peerupgrade.demo.cluster import NEW, Cluster, DemoNode
from peerupgrade.demo.load import Balancer, Client

_HEADINGS = ("NODE", "INSTALLED", "OPERATING", "ACTING", "MASTER", "STATE", "SERVICE", "REQUESTS")
_FRAMES_PER_S = 10
_REASONS_MAX = 3


class Screen(AbstractContextManager["Screen"], Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """What happens now."""
        ...


class _Clock:
    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def stamped(self, text: str) -> str:
        return f"{time.monotonic() - self._begun_s:5.1f} s  {text}"


class Lines:
    """One line for each step, on stderr."""

    def __init__(self) -> None:
        self._clock = _Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """What happens now."""
        print(self._clock.stamped(text), file=sys.stderr, flush=True)


class LiveTable:
    """The nodes as they are, below the steps so far."""

    def __init__(self, cluster: Cluster, balancer: Balancer, client: Client) -> None:
        self._clock = _Clock()
        self._cluster = cluster
        self._balancer = balancer
        self._client = client
        self._live = Live(
            get_renderable=self._picture,
            console=Console(highlight=False, markup=False),
            refresh_per_second=_FRAMES_PER_S,
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """What happens now."""
        self._live.console.print(Text(self._clock.stamped(text)))

    def _picture(self) -> RenderableType:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in _HEADINGS:
            table.add_column(heading, justify="right" if heading == "REQUESTS" else "left")
        for node in self._cluster.nodes:
            table.add_row(*self._row(node))
        client = self._client
        lines = [Text(f"\nrequests: {client.served:,} served, {client.failed} failed")]
        reasons = self._cluster.waits_for
        lines += [Text(f"waits for: {reason}", style="dim") for reason in reasons[:_REASONS_MAX]]
        if len(reasons) > _REASONS_MAX:
            lines.append(Text(f"and {len(reasons) - _REASONS_MAX} more", style="dim"))
        return Group("", table, *lines)

    def _row(self, node: DemoNode) -> list[Text]:
        said = node.said or {}
        master = f"epoch {said['epoch']}" if node.is_master else ""
        return [
            Text(node.name, style="bold"),
            _version(said.get("installed")),
            _version(said.get("operating")),
            _version(said.get("acting")),
            Text(master, style="yellow"),
            Text(said.get("state", "gone"), style="" if said else "red"),
            _version(node.release or None),
            Text(f"{self._balancer.given[node.name]:,}"),
        ]


def _version(version: str | None) -> Text:
    return Text(version or "-", style="green" if version == NEW.version else "")
