"""The shared storage area in Redis or Valkey.

Theory of operation: every request is one script, run once. What comes back is a status word, the
identity of the server, how many replicas it has, the record as it is now, and what the status
brings with it. Nothing is ever repeated: a request without an answer is `Failed`, and the client is
made anew by the next one, which also finds the primary after a failover.

What must not be lost in a failover is followed by WAIT on the connection that wrote it, so these
requests have a connection of their own, one after another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from peerupgrade.adapters.redis_client import StoreClient
from peerupgrade.adapters.redis_data import RedisData
from peerupgrade.adapters.redis_link import RedisLink
from peerupgrade.adapters.redis_scripts import Keys, Script, cancellable
from peerupgrade.core.record import (
    ClusterRecord,
    CollectionView,
    Member,
    Parked,
    Snapshot,
    Standing,
    Tombstone,
)
from peerupgrade.core.requests import (
    Admit,
    Admitted,
    All,
    Attach,
    Attached,
    Audit,
    Audited,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Convert,
    Done,
    Exclude,
    Failed,
    Fenced,
    Fetch,
    Init,
    Leave,
    NotMember,
    Read,
    ReadAll,
    Refused,
    ReleaseHold,
    Reply,
    Report,
    Request,
    Resolve,
    Resolved,
    ReturnSlot,
    SaveStep,
    Scan,
    Seeds,
    SeedsFound,
    SetDowngrade,
    SetHold,
    SetRollout,
    TakeSlot,
    Unverified,
    View,
    Write,
)
from peerupgrade.errors import DataError, UnavailableError
from peerupgrade.wire import (
    member_from_fields,
    record_from_fields,
    record_to_fields,
    request_to_fields,
    slot_from_fields,
    step_from_fields,
    tombstone_from_fields,
)

_NAMES: Mapping[type[Request], str] = {
    Read: "read",
    ReadAll: "read_all",
    Seeds: "seeds",
    Init: "init",
    Admit: "admit",
    Report: "report",
    Leave: "leave",
    Exclude: "exclude",
    SetHold: "hold",
    ReleaseHold: "hold",
    SetRollout: "steer",
    SetDowngrade: "steer",
    TakeSlot: "take_slot",
    ReturnSlot: "return_slot",
    Claim: "claim",
    Commit: "commit",
    SaveStep: "save_step",
    Attach: "attach",
    Audit: "audit",
    Resolve: "resolve",
}
_ABOUT_DATA = (Audit, Resolve)
_IN_RECORDS = (Write, Fetch, Scan, Convert)
_SCRIPTS = {
    kind: Script("_clock", "_prelude", *(["_data"] if kind in _ABOUT_DATA else []), name)
    for kind, name in _NAMES.items()
}
_PLAIN: Mapping[str, Callable[[View], Reply]] = {
    "done": Done,
    "unverified": Unverified,
    "conflict": Conflict,
    "fenced": Fenced,
}
_HINT = "see whether another program uses the same keys"
# Acknowledged only once they are durable.
_PROMISES = (SetHold, ReleaseHold, SetRollout, SetDowngrade, Exclude, TakeSlot)
_DURABLE = (*_PROMISES, Claim, Commit)
_SLOT = "_slot:"


class RedisStore:
    """`ports.Store` over a Redis or Valkey server.

    Args:
        link: to the server.
        cluster: the name of the cluster.
        min_replicas: as many must confirm what is durable; 0: one, if there is any at the time.
        timeout_s: for each answer.
        wait_ms: how long the replicas may take to confirm.
    """

    def __init__(
        self,
        link: RedisLink,
        cluster: str,
        *,
        min_replicas: int = 0,
        timeout_s: float = 1.0,
        wait_ms: int = 500,
    ) -> None:
        self._link = link
        self._keys = Keys(cluster)
        self._min_replicas = min_replicas
        self._wait_ms = wait_ms
        self._shared = StoreClient(link, timeout_s=timeout_s)
        # Its timeout leaves room for the WAIT.
        self._writer = StoreClient(link, timeout_s=timeout_s + wait_ms / 1000)
        self._writing = asyncio.Lock()
        self._data = RedisData(link, cluster, timeout_s=timeout_s)

    async def call(self, request: Request) -> Reply:
        """Do one request, at most once.

        Raises:
            ConfigError: the server will never answer as things are set.
        """
        with cancellable():
            try:
                if isinstance(request, _IN_RECORDS):
                    return await self._data.call(request)
                if isinstance(request, _DURABLE):
                    async with self._writing:
                        return await self._call_durably(request)
                return _read_reply(await self._run(self._shared, request))
            except (UnavailableError, DataError) as error:
                return Failed(str(error))

    async def history(self, count: int) -> list[dict[str, str]]:
        """The newest `count` entries of the history, newest first; each with its `id`.

        Raises:
            UnavailableError: no answer.
            ConfigError: the server will never answer as things are set.
        """
        with cancellable():
            async with self._shared.use("read the history") as line:
                entries = await line.ask(
                    b"XREVRANGE", self._keys.history, b"+", b"-", b"COUNT", count
                )
        return [{"id": entry_id, **_map(flat)} for entry_id, flat in entries]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._shared.aclose()
        await self._writer.aclose()
        await self._data.aclose()

    async def _run(self, on: StoreClient, request: Request) -> list[Any]:
        keys = self._keys
        names = list(keys.control)
        if isinstance(request, _ABOUT_DATA):
            names += keys.data(request.collection)
        elif isinstance(request, ReadAll):
            names += (keys.collections, keys.steps)
        elif isinstance(request, Commit):
            names.append(keys.collections)
        elif isinstance(request, SaveStep):
            names.append(keys.steps)
        ask = msgspec.json.encode(_arguments(request))
        args = (keys.record_channel, keys.members_channel, ask)
        async with on.use(_NAMES[type(request)].replace("_", " ")) as line:
            return await line.run(_SCRIPTS[type(request)], names, *args)

    async def _call_durably(self, request: Request) -> Reply:
        raw = await self._run(self._writer, request)
        reply = _read_reply(raw)
        if not isinstance(reply, Done | Claimed):
            return reply  # nothing was written
        needed = self._min_replicas or min(1, int(raw[2]))
        confirmed = await self._wait(needed) if needed else 0
        if confirmed >= needed:
            return reply
        if isinstance(request, _PROMISES):  # R23, S8, R29
            return Failed(
                f"it is written, but only {confirmed} of {needed} replicas have confirmed it, so a "
                "failover could forget it: bring the replicas back, then do it again"
            )
        return replace(reply, durable=False)

    async def _wait(self, replicas: int) -> int:
        """How many replicas have everything that was written on the writer's connection."""
        async with self._writer.use("wait for the replicas") as line:
            return int(await line.ask(b"WAIT", replicas, self._wait_ms))


def _arguments(request: Request) -> Mapping[str, object]:
    fields = request_to_fields(request)
    if isinstance(request, Init):
        record = ClusterRecord(
            request.generation, revision=1, bootstrap_expect=request.bootstrap_expect
        )
        return {**fields, "record": record_to_fields(record)}
    return fields


def _read_reply(raw: Sequence[Any]) -> Reply:
    status, identity, _, stored, *rest = raw
    fields = _map(stored)
    view = _view(fields, identity)
    match status:
        case "view":
            return view
        case "all":
            return All(_snapshot(view, fields, *rest))
        case "seeds":
            return SeedsFound(tuple(rest[0]))
        case "admitted":
            incarnation, standing, rule = rest
            return Admitted(int(incarnation), Standing(standing), rule, view)
        case "attached":
            return Attached(int(rest[0]), view)
        case "claimed":
            assert view.record is not None
            return Claimed(view.record.epoch, view)
        case "refused":
            rule, other, tombstone = rest
            return Refused(rule, view, _member(other), _tombstone(tombstone))
        case "not_member":
            return NotMember(view, _tombstone(rest[0]))
        case "audited":
            return Audited(rest[0] == "1", int(rest[1]))
        case "resolved":
            return Resolved(int(rest[0]))
        case _ if status in _PLAIN:
            return _PLAIN[status](view)
        case _:
            raise DataError(f"a script answered {status!r}", hint="report this")


def _view(fields: Mapping[str, str], identity: str) -> View:
    if "generation" not in fields:
        return View(None, identity)
    record = record_from_fields(fields)
    doubted = record.identity != identity and fields.get("_suspect") == identity
    return View(record, identity, _number(fields, "_quarantine_until_ms") if doubted else 0)


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "0")
    if not text.isdecimal():
        raise DataError(f"field {name!r} of the record is {text!r:.200}", hint=_HINT)
    return int(text)


def _snapshot(
    view: View,
    fields: Mapping[str, str],
    members: list[str],
    excluded: list[str],
    now_ms: str,
    collections: list[Any],
    steps: list[str],
) -> Snapshot:
    return Snapshot(
        record=view.record,
        members={
            node_id: member_from_fields(_decoded(text)) for node_id, text in _map(members).items()
        },
        members_revision=_number(fields, "_members_revision"),
        now_ms=int(now_ms),
        identity=view.identity,
        quarantine_until_ms=_number(fields, "_quarantine_until_ms"),
        doubted_at_ms=_number(fields, "_doubted_at_ms"),
        excluded={
            node_id: tombstone_from_fields(_decoded(text))
            for node_id, text in _map(excluded).items()
        },
        slots={
            name.removeprefix(_SLOT): slot_from_fields(_decoded(text))
            for name, text in fields.items()
            if name.startswith(_SLOT)
        },
        collections={
            name: _collection(_map(about), _map(parked), int(skipped))
            for name, about, parked, skipped in zip(*[iter(collections)] * 4, strict=True)
        },
        steps={key: step_from_fields(_decoded(text)) for key, text in _map(steps).items()},
    )


def _collection(
    about: Mapping[str, str], parked: Mapping[str, str], skipped: int
) -> CollectionView:
    return CollectionView(
        counts={
            name.removeprefix("count "): int(number)
            for name, number in about.items()
            if name.startswith("count ")
        },
        parked={
            key: Parked(one["format"], one["error"], int(one["at_ms"]))
            for key, one in ((key, _decoded(text)) for key, text in parked.items())
        },
        skipped=skipped,
        converter=about.get("converter", ""),
        converted=int(about.get("converted", 0)),
        began_at_ms=int(about.get("began_at_ms", 0)),
    )


def _member(text: str) -> Member | None:
    return member_from_fields(_decoded(text)) if text else None


def _tombstone(text: str) -> Tombstone | None:
    return tombstone_from_fields(_decoded(text)) if text else None


def _decoded(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise DataError(f"a member in the store cannot be read ({error})", hint=_HINT) from error


def _map(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
