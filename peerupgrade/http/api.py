"""The HTTP interface of a node: routes, what they take, and the server.

Questions are GET, commands are POST with a JSON object. What the store knows is asked of it at once
and, while it is away, answered from memory with `live` false. `/v1/events` is a stream of
server-sent events; `/v1/acting` can wait for the next revision.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web

from peerupgrade.core.downgrade import GoBack, obstacles
from peerupgrade.core.plan import Question, can_deploy, make_plan
from peerupgrade.core.record import Snapshot
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.requests import (
    Done,
    Outcome,
    ReleaseHold,
    Reply,
    Resolve,
    Resolved,
    ReturnSlot,
    SetHold,
    TakeSlot,
)
from peerupgrade.core.steering import Abort, Change, Pause, Resume, Retry, Skip, Start, Steering
from peerupgrade.core.strategy import ASKED, Changes, Strategy, changes_of
from peerupgrade.core.versions import parse_version, supported
from peerupgrade.errors import ConfigError, DataError, RefusedError, UnavailableError
from peerupgrade.http import model
from peerupgrade.http.guard import HttpError, make_guard, say_errors
from peerupgrade.http.view import Ledger, NodeEvent, NodeView
from peerupgrade.settings import is_loopback, split_address

REVISION_HEADER = "Peerupgrade-Revision"
_BODY_BYTES_MAX = 64 * 1024
_HISTORY_DEFAULT, _HISTORY_MAX = 20, 1000
_WAIT_DEFAULT_S, _WAIT_MAX_S = 30.0, 300.0
_KEEP_ALIVE_S = 15.0
_SHUTDOWN_S = 1.0

_T = TypeVar("_T")
_Line = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_Sample = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_ForS = Annotated[float, msgspec.Meta(gt=0, le=366 * 86400)]

# --- bodies of commands ---------------------------------------------------------------------------


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON object. Its texts reach other people's terminals, so they are plain lines."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str) and any(unicodedata.category(c) == "Cc" for c in value):
                raise ValueError(f"`{name}` has control characters; give one line of text")


class _Nothing(_Body, frozen=True, kw_only=True):
    pass


class _Hold(_Body, frozen=True, kw_only=True):
    by: _Line
    reason: _Line
    for_s: _ForS | None = None


class _Release(_Body, frozen=True, kw_only=True):
    by: _Line
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _PlanDowngrade(_Body, frozen=True, kw_only=True):
    version: _Line


class _StartDowngrade(_Body, frozen=True, kw_only=True):
    version: _Line
    by: _Line
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Exclude(_Body, frozen=True, kw_only=True):
    name: _Line
    by: _Line
    reason: _Line
    confirm_stopped: bool = False


class _TakeSlot(_Body, frozen=True, kw_only=True):
    name: _Line
    by: _Line
    budget: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class _ReturnSlot(_Body, frozen=True, kw_only=True):
    name: _Line
    by: _Line
    outcome: Outcome = Outcome.UP


class _Away(_Body, frozen=True, kw_only=True):
    away: bool


def _no_member(name: str) -> HttpError:
    return HttpError(404, f"there is no member {name!r}", "peerupgrade members lists them")


class _Pause(_Body, frozen=True, kw_only=True):
    by: _Line
    reason: _Line


class _Resolve(_Body, frozen=True, kw_only=True):
    collection: _Line
    key: Annotated[str, msgspec.Meta(max_length=500)] = ""
    verdict: Literal["retry", "skip", "delete"]
    by: _Line


class _Change(_Body, frozen=True, kw_only=True):
    by: _Line
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Start(_Change, frozen=True, kw_only=True):
    version: _Line
    skip: tuple[_Line, ...] = ()
    lowest_supported: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Abort(_Release, frozen=True, kw_only=True):
    rollback: bool = False


class _OfMember(_Body, frozen=True, kw_only=True):
    name: _Line
    by: _Line
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class _Rehearse(_Body, frozen=True, kw_only=True):
    version: _Line
    sample: _Sample = 1000


class _Plan(_Body, frozen=True, kw_only=True):
    version: _Line
    skip: tuple[_Line, ...] = ()
    lowest_supported: _Line | None = None
    sample: _Sample = 1000


async def _body(request: web.Request, kind: type[_T]) -> _T:
    """The body as `kind`; an empty one counts as `{}`."""
    return _read_as(kind, await request.read())


async def _with_strategy(request: web.Request, kind: type[_T]) -> tuple[_T, Changes]:
    """A body that may have fields of a strategy beside those of `kind`; null: not given."""
    fields = _read_as(dict[str, Any], await request.read())
    given = {name: fields.pop(name) for name in ASKED if name in fields}
    try:
        changes = changes_of({name: value for name, value in given.items() if value is not None})
    except ConfigError as error:
        raise HttpError(400, str(error.args[0]), error.hint) from None
    return _read_as(kind, msgspec.json.encode(fields)), changes


def _read_as(kind: type[_T], raw: bytes) -> _T:
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise HttpError(400, f"the body is wrong: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(400, f"the body is not JSON: {error}") from error


def _number(request: web.Request, name: str, default: float, most: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise HttpError(400, f"{name} is {text!r}", f"give a number from 0 to {most:g}")
    return value


def _text(request: web.Request, name: str) -> str:
    text = request.query.get(name, "")
    if not text:
        raise HttpError(400, f"{name} is missing", f"give it in the query: ?{name}=2.0")
    return text


# --- routes ---------------------------------------------------------------------------------------


class _Api:
    """The routes over one node."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self._waiting: set[asyncio.Task[object]] = set()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/livez", self.livez)
        router.add_get("/readyz", self.readyz)
        router.add_get("/metrics", self.metrics)
        router.add_get("/v1/node", self.node)
        router.add_get("/v1/cluster", self.cluster)
        router.add_get("/v1/members", self.members)
        router.add_get("/v1/topology", self.topology)
        router.add_get("/v1/why", self.why)
        router.add_get("/v1/history", self.history)
        router.add_get("/v1/acting", self.acting)
        router.add_get("/v1/events", self.events, allow_head=False)
        router.add_get("/v1/doctor", self.doctor)
        router.add_get("/v1/can-deploy", self.can_deploy)
        router.add_post("/v1/hold", self.hold)
        router.add_post("/v1/release", self.release)
        router.add_post("/v1/exclude", self.exclude)
        router.add_post("/v1/slot/take", self.take_slot)
        router.add_post("/v1/slot/return", self.return_slot)
        router.add_post("/v1/resign", self.resign)
        router.add_post("/v1/away", self.away)
        router.add_post("/v1/data/pause", self.pause)
        router.add_post("/v1/data/resume", self.resume)
        router.add_post("/v1/data/resolve", self.resolve)
        router.add_post("/v1/upgrade/rehearse", self.rehearse)
        router.add_post("/v1/upgrade/plan", self.plan)
        router.add_post("/v1/downgrade/plan", self.plan_downgrade)
        router.add_post("/v1/downgrade/start", self.start_downgrade)
        router.add_get("/v1/upgrade", self.rollout)
        router.add_post("/v1/upgrade/start", self.start_rollout)
        router.add_post("/v1/upgrade/change", self.change_rollout)
        router.add_post("/v1/upgrade/pause", self.pause_rollout)
        router.add_post("/v1/upgrade/resume", self.resume_rollout)
        router.add_post("/v1/upgrade/retry", self.retry_member)
        router.add_post("/v1/upgrade/skip", self.skip_member)
        router.add_post("/v1/upgrade/abort", self.abort_rollout)

    async def livez(self, _request: web.Request) -> web.Response:
        live = self.view.live()
        return web.json_response({"live": live}, status=200 if live else 503)

    async def readyz(self, _request: web.Request) -> web.Response:
        status = self.view.status()
        answer = {"ready": status.ready, "state": str(status.state), "reason": status.reason}
        return web.json_response(answer, status=200 if status.ready else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        from peerupgrade.http.metrics import CONTENT_TYPE, metrics_text

        ledger = await self.view.ledger()
        text = metrics_text(self.view.status(), ledger, time.time_ns() // 1_000_000)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def node(self, _request: web.Request) -> web.Response:
        return web.json_response(model.node_json(self.view.status()))

    async def cluster(self, _request: web.Request) -> web.Response:
        ledger = await self.view.ledger()
        return web.json_response(model.cluster_json(ledger, self.view.status()))

    async def members(self, _request: web.Request) -> web.Response:
        ledger = await self.view.ledger()
        gossip = self.view.gossip()
        if ledger.snapshot is None and not (gossip and gossip.sightings):
            raise UnavailableError("the members are not known", hint=ledger.note)
        return web.json_response(model.members_json(ledger, self.view.status(), gossip))

    async def topology(self, _request: web.Request) -> web.Response:
        gossip, traffic = self.view.gossip(), self.view.traffic()
        if gossip is None or traffic is None:
            name = self.view.status().name
            raise HttpError(404, f"{name} does not gossip", "start it with --gossip HOST:PORT")
        return web.json_response(model.topology_json(gossip, traffic))

    async def why(self, _request: web.Request) -> web.Response:
        return web.json_response(model.why_json(await self.view.ledger()))

    async def history(self, request: web.Request) -> web.Response:
        count = int(_number(request, "count", _HISTORY_DEFAULT, _HISTORY_MAX))
        return web.json_response(model.history_json(await self.view.history(count)))

    async def acting(self, request: web.Request) -> web.Response:
        """At the time-out the answer is the revision that the client has already."""
        if "wait" in request.query:
            known = int(_number(request, "wait", 0, 2**53))
            timeout_s = _number(request, "timeout_s", _WAIT_DEFAULT_S, _WAIT_MAX_S)
            with self._cut_at_shutdown():
                record = await self.view.wait_newer(known, timeout_s)
        else:
            record = self.view.status().record
        status = self.view.status()
        if record is None:
            raise UnavailableError(
                f"{status.name} has no cluster record yet", hint="/v1/node says what it waits for"
            )
        return web.json_response(
            model.acting_json(status, record), headers={REVISION_HEADER: str(record.revision)}
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        happening = self.view.events()  # from before the first word on
        try:
            with self._cut_at_shutdown():
                async with asyncio.TaskGroup() as group:
                    keep_alive = group.create_task(_keep_alive(response))
                    await response.write(_sse(self._watching()))
                    async for event in happening:
                        await response.write(_sse(event))
                    keep_alive.cancel()
        except* ConnectionResetError:
            pass  # the client has gone
        return response

    async def doctor(self, _request: web.Request) -> web.Response:
        return web.json_response(model.doctor_json(await self.view.doctor()))

    async def can_deploy(self, request: web.Request) -> web.Response:
        versions = supported(_text(request, "version"), _text(request, "lowest_supported"))
        ledger = await self.view.ledger()
        deployment = can_deploy(_live(ledger), *versions)
        return web.json_response(model.deployment_json(ledger, versions, deployment))

    async def hold(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Hold)
        until_ms = 0
        if asked.for_s is not None:
            until_ms = await self._store_now_ms() + round(asked.for_s * 1000)
        return _changed(await self.view.change(SetHold(asked.by, asked.reason, until_ms)))

    async def release(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Release)
        return _changed(await self.view.change(ReleaseHold(asked.by, asked.reason)))

    async def exclude(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Exclude)
        try:
            await self.view.exclude(asked.name, asked.by, asked.reason, asked.confirm_stopped)
        except KeyError:
            raise _no_member(asked.name) from None
        return web.json_response({"excluded": asked.name})

    async def take_slot(self, request: web.Request) -> web.Response:
        asked = await _body(request, _TakeSlot)
        try:
            reply = await self.view.change(TakeSlot(asked.name, asked.by, asked.budget))
        except KeyError:
            raise _no_member(asked.name) from None
        return _changed(reply)

    async def return_slot(self, request: web.Request) -> web.Response:
        asked = await _body(request, _ReturnSlot)
        return _changed(await self.view.change(ReturnSlot(asked.name, asked.by, asked.outcome)))

    async def resign(self, request: web.Request) -> web.Response:
        await _body(request, _Nothing)
        if not await self.view.resign():
            status = self.view.status()
            master = status.record.master if status.record else ""
            raise RefusedError(
                f"{status.name} is not master",
                rule="not_master",
                hint=f"ask {master}" if master else "there is no master now",
            )
        return web.json_response({"resigned": True})

    async def away(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Away)
        await self.view.set_away(asked.away)
        return web.json_response({"away": asked.away})

    async def pause(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Pause)
        return _changed(await self.view.change(SetHold(asked.by, asked.reason, what="pause")))

    async def resume(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Release)
        return _changed(await self.view.change(ReleaseHold(asked.by, asked.reason, what="pause")))

    async def resolve(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Resolve)
        reply = await self.view.change(
            Resolve(asked.collection, asked.key, asked.verdict, asked.by)
        )
        assert isinstance(reply, Resolved)
        if not reply.count:
            what = f"{asked.collection}/{asked.key}" if asked.key else asked.collection
            raise HttpError(404, f"nothing is parked: {what!r}", "peerupgrade why lists what is")
        return web.json_response({"count": reply.count})

    async def rehearse(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Rehearse)
        with self._cut_at_shutdown():
            found = await self.view.rehearse(asked.version, asked.sample)
        return web.json_response(model.rehearsal_json(found))

    async def plan(self, request: web.Request) -> web.Response:
        asked, changes = await _with_strategy(request, _Plan)
        version, lowest = parse_version(asked.version), None
        if asked.lowest_supported is not None:
            version, lowest = supported(asked.version, asked.lowest_supported)
        ledger = await self.view.ledger()
        if ledger.snapshot is None:
            raise UnavailableError("nothing is known to plan from", hint=ledger.note)
        rehearsals: list[Rehearsal] = []
        why_not = ""
        if any(one.counts for one in ledger.snapshot.collections.values()):
            with self._cut_at_shutdown():
                rehearsals, why_not = await self._rehearsed(asked.version, asked.sample)
        gossip = self.view.gossip()
        silent = gossip.silent if gossip is not None else frozenset()
        question = Question(
            version, lowest, Strategy(**changes), asked.skip, ledger.blockers, silent, rehearsals
        )
        try:  # beside the event loop: a large cluster is played through for a while
            plan = await asyncio.to_thread(make_plan, ledger.snapshot, question)
        except KeyError as error:
            raise _no_member(error.args[0]) from None
        return web.json_response(model.plan_json(ledger, plan, why_not))

    async def plan_downgrade(self, request: web.Request) -> web.Response:
        version = parse_version((await _body(request, _PlanDowngrade)).version)
        ledger = await self.view.ledger()
        found = obstacles(_live(ledger), version)
        return web.json_response(model.downgrade_json(ledger, version, found))

    async def start_downgrade(self, request: web.Request) -> web.Response:
        asked = await _body(request, _StartDowngrade)
        return _changed(await self.view.steer(GoBack(asked.version, asked.by, asked.reason)))

    async def rollout(self, _request: web.Request) -> web.Response:
        return web.json_response(model.rollout_json(await self.view.ledger()))

    async def start_rollout(self, request: web.Request) -> web.Response:
        asked, changes = await _with_strategy(request, _Start)
        if asked.lowest_supported:
            supported(asked.version, asked.lowest_supported)
        how = (Strategy(**changes), asked.skip, asked.lowest_supported)
        return await self._steer(Start(asked.version, asked.by, asked.reason, *how))

    async def change_rollout(self, request: web.Request) -> web.Response:
        asked, changes = await _with_strategy(request, _Change)
        return await self._steer(Change(changes, asked.by, asked.reason))

    async def pause_rollout(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Pause)
        return await self._steer(Pause(asked.by, asked.reason))

    async def resume_rollout(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Release)
        return await self._steer(Resume(asked.by, asked.reason))

    async def retry_member(self, request: web.Request) -> web.Response:
        asked = await _body(request, _OfMember)
        return await self._steer(Retry(asked.name, asked.by, asked.reason))

    async def skip_member(self, request: web.Request) -> web.Response:
        asked = await _body(request, _OfMember)
        return await self._steer(Skip(asked.name, asked.by, asked.reason))

    async def abort_rollout(self, request: web.Request) -> web.Response:
        asked = await _body(request, _Abort)
        return await self._steer(Abort(asked.by, asked.reason, asked.rollback))

    async def _steer(self, asked: Steering) -> web.Response:
        try:
            await self.view.steer(asked)
        except KeyError as error:
            raise _no_member(error.args[0]) from None
        return web.json_response(model.rollout_json(await self.view.ledger()))

    async def _rehearsed(self, version: str, sample: int) -> tuple[list[Rehearsal], str]:
        """What a rehearsal found, or why there was none: a plan goes without."""
        try:
            return await self.view.rehearse(version, sample), ""
        except (RefusedError, UnavailableError, DataError) as error:
            return [], str(error)

    async def _store_now_ms(self) -> int:
        """The store's clock, by which a hold ends."""
        return _live(await self.view.ledger()).now_ms

    def _watching(self) -> NodeEvent:
        """The first event of a stream: where things stand as it begins."""
        status = self.view.status()
        revision = status.record.revision if status.record else 0
        acting = f"acting at {status.acting}" if status.acting else "no acting version yet"
        now_ms = time.time_ns() // 1_000_000
        return NodeEvent(now_ms, status.name, "watching", acting, revision)

    @contextmanager
    def _cut_at_shutdown(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    async def shut_down(self, _app: web.Application) -> None:
        """End what would wait for a long time; a command under way may finish."""
        for task in self._waiting:
            task.cancel()


async def _keep_alive(response: web.StreamResponse) -> None:
    """A comment now and then, so that either side notices when the other has gone."""
    while True:
        await asyncio.sleep(_KEEP_ALIVE_S)
        await response.write(b": still here\n\n")


def _sse(event: NodeEvent) -> bytes:
    # JSON has no line breaks of its own, so one line of data is enough.
    return f"data: {json.dumps(model.event_json(event))}\n\n".encode()


def _live(ledger: Ledger) -> Snapshot:
    """What the store says now, not what was known last."""
    if not ledger.live or ledger.snapshot is None:
        raise UnavailableError("the store does not answer", hint=ledger.note)
    return ledger.snapshot


def _changed(reply: Reply) -> web.Response:
    assert isinstance(reply, Done)  # everything else was raised
    if not reply.durable:  # R23: acknowledged means that a failover cannot forget it
        raise UnavailableError(
            "it is written, but too few replicas have confirmed it: a failover could forget it",
            hint="look at the replicas, then say it again",
        )
    return web.json_response({"cluster": model.record_json(reply.view.record)})


async def _never_stored(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


# --- the server -----------------------------------------------------------------------------------


def make_app(view: NodeView, token: str, loopback: bool) -> web.Application:
    """The interface of one node.

    Args:
        view: the node.
        token: that commands need, and beyond loopback all but the probes; empty: no commands.
        loopback: only this machine can reach the server.
    """
    api = _Api(view)
    app = web.Application(
        middlewares=[say_errors, make_guard(token, loopback)], client_max_size=_BODY_BYTES_MAX
    )
    api.add_routes(app.router)
    app.on_response_prepare.append(_never_stored)
    app.on_shutdown.append(api.shut_down)
    return app


class HttpServer:
    """Serves one node at one address."""

    def __init__(self, view: NodeView, listen: str, token: str) -> None:
        self.listen = listen
        self._host, self._port = split_address(listen)
        app = make_app(view, token, is_loopback(self._host))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)

    async def start(self) -> str:
        """Listen.

        Returns:
            The base URL, with the port that was really taken. An address that stands for all of
            this machine is given as loopback.

        Raises:
            ConfigError: the address cannot be used.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.stop()
            raise _cannot_listen(self.listen, error) from error
        port = self._runner.addresses[0][1]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close; streams end at once."""
        await self._runner.cleanup()


def _cannot_listen(listen: str, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"cannot listen on {listen}: another program does",
            hint="stop it, or listen on another port; port 0 takes a free one",
        )
    return ConfigError(
        f"cannot listen on {listen}: {error.strerror or error}",
        hint="give an address of this machine and a port that this user may use",
    )
