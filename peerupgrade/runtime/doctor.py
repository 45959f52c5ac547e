"""Examines what a node depends on."""

from __future__ import annotations

from collections.abc import Sequence

from peerupgrade.adapters.clock import unix_ms
from peerupgrade.adapters.redis_link import RedisLink, preflight, problems, redis_errors
from peerupgrade.core.requests import All, ReadAll
from peerupgrade.errors import PeerUpgradeError
from peerupgrade.http.view import Finding
from peerupgrade.ports import Store

_SKEW_S_MAX = 5.0


async def examine(links: Sequence[RedisLink], store: Store) -> list[Finding]:
    """Look at each server, and at the record.

    Args:
        links: one for each lock server; the first is the store.
        store: the shared storage area.
    """
    found: list[Finding] = []
    for number, link in enumerate(links):
        found += await _server("store" if number == 0 else f"lock server {number}", link)
    return found + await _record(store)


async def _server(subject: str, link: RedisLink) -> list[Finding]:
    try:
        with redis_errors(link.url, "examine it"):
            client = await link.connect()
            try:
                facts = await preflight(client)
            finally:
                await client.aclose()
    except PeerUpgradeError as error:
        return [Finding("error", subject, str(error))]
    version = ".".join(str(number) for number in facts.version)
    found = [Finding("ok", subject, f"{facts.product} {version} answers at {link.url.redacted}")]
    return found + [
        Finding(problem.level, subject, problem.text, problem.hint) for problem in problems(facts)
    ]


async def _record(store: Store) -> list[Finding]:
    reply = await store.call(ReadAll())
    if not isinstance(reply, All):
        return []
    snapshot = reply.snapshot
    found = []
    skew_s = abs(snapshot.now_ms - unix_ms()) / 1000
    if skew_s > _SKEW_S_MAX:
        found.append(
            Finding(
                "warning",
                "clock",
                f"this machine's clock and the store's differ by {skew_s:.0f} s",
                "run a time service; times are shown by the store's clock",
            )
        )
    else:
        found.append(Finding("ok", "clock", f"differs from the store's by {skew_s:.1f} s"))
    if snapshot.record is not None and not snapshot.verified:
        found.append(
            Finding(
                "warning",
                "store",
                "its identity changed and the members have not verified it yet",
                "peerupgrade why shows what is awaited",
            )
        )
    return found
