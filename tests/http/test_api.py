"""The HTTP interface of a node, by a real client at a real server."""

import asyncio
import contextlib
import json
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from fake_node import (
    GOSSIP,
    HOLD,
    HOUR_MS,
    MEMBERS,
    NOW_MS,
    RECORD,
    SNAPSHOT,
    V2,
    FakeNode,
    event,
)

from peerupgrade.core.downgrade import GoBack
from peerupgrade.core.membership import NodeState
from peerupgrade.core.record import CollectionView, RolloutEnd
from peerupgrade.core.rehearsal import Rehearsal
from peerupgrade.core.requests import (
    Done,
    Outcome,
    ReleaseHold,
    ReturnSlot,
    SetHold,
    TakeSlot,
    View,
)
from peerupgrade.core.versions import parse_version
from peerupgrade.errors import ConfigError, RefusedError, UnavailableError
from peerupgrade.http import api
from peerupgrade.http.api import HttpServer, make_app

PROBES = ["/livez", "/readyz"]
QUESTIONS = [
    "/metrics",
    "/v1/node",
    "/v1/cluster",
    "/v1/members",
    "/v1/topology",
    "/v1/why",
    "/v1/history",
    "/v1/acting",
    "/v1/events",
    "/v1/doctor",
    "/v1/can-deploy?version=2.0&lowest_supported=1.0",
    "/v1/upgrade",
]
COMMANDS = {
    "/v1/hold": {"by": "ann", "reason": "closing"},
    "/v1/release": {"by": "ann"},
    "/v1/exclude": {"name": "n2", "by": "ann", "reason": "gone", "confirm_stopped": True},
    "/v1/slot/take": {"name": "n2", "by": "ann", "budget": 2},
    "/v1/slot/return": {"name": "n2", "by": "ann", "outcome": "unused"},
    "/v1/resign": {},
    "/v1/away": {"away": True},
    "/v1/data/pause": {"by": "ann", "reason": "peak"},
    "/v1/data/resume": {"by": "ann"},
    "/v1/data/resolve": {"collection": "notes", "verdict": "skip", "by": "ann"},
    "/v1/upgrade/rehearse": {"version": "2.0", "sample": 10},
    "/v1/upgrade/plan": {"version": "2.0", "lowest_supported": "1.0", "sample": 10},
    "/v1/downgrade/plan": {"version": "0.9"},
    "/v1/downgrade/start": {"version": "0.9", "by": "ann", "reason": "slow"},
    "/v1/upgrade/start": {"version": "2.0", "by": "ann", "reason": "new", "budget": 2},
    "/v1/upgrade/change": {"by": "ann", "canary": 1, "soak_s": 2.5, "one_zone": True},
    "/v1/upgrade/pause": {"by": "ann", "reason": "peak"},
    "/v1/upgrade/resume": {"by": "ann"},
    "/v1/upgrade/retry": {"name": "n2", "by": "ann"},
    "/v1/upgrade/skip": {"name": "n2", "by": "ann", "reason": "broken"},
    "/v1/upgrade/abort": {"by": "ann"},
}
BEARER = {"Authorization": "Bearer secret"}

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def asking(node, *, token="secret", loopback=True):
    async with TestClient(TestServer(make_app(node, token, loopback))) as client:
        yield client


async def call(client, path, *, body=None, headers=BEARER, method=None):
    """Status and JSON of one request; a command if it has a body."""
    method = method or ("GET" if body is None else "POST")
    async with client.request(method, path, json=body, headers=headers) as response:
        assert response.content_type == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


# --- who may ask ----------------------------------------------------------------------------------

# loopback, the node's token, the client's header -> status of probes, questions, commands
ACCESS = [
    (True, "secret", None, (200, 200, 401)),
    (True, "secret", "Bearer wrong", (200, 200, 401)),
    (True, "secret", "Basic secret", (200, 200, 401)),
    (True, "secret", "Bearer s\u00e9cret", (200, 200, 401)),
    (True, "secret", "secret", (200, 200, 401)),
    (True, "secret", "Bearer secret", (200, 200, 200)),
    (True, "secret", "bearer secret", (200, 200, 200)),
    (True, "", None, (200, 200, 403)),
    (True, "", "Bearer ", (200, 200, 403)),
    (False, "secret", None, (200, 401, 401)),
    (False, "secret", "Bearer wrong", (200, 401, 401)),
    (False, "secret", "Bearer secret", (200, 200, 200)),
    (False, "", "Bearer ", (200, 403, 403)),
]


@pytest.mark.parametrize(("loopback", "token", "header", "expected"), ACCESS)
async def test_every_route_asks_for_the_token_where_it_is_needed(loopback, token, header, expected):
    node = FakeNode()
    probe, question, command = expected
    headers = {} if header is None else {"Authorization": header}
    wanted = [("GET", path, None, probe) for path in PROBES]
    wanted += [("GET", path, None, question) for path in QUESTIONS]
    wanted += [("POST", path, body, command) for path, body in COMMANDS.items()]
    async with asking(node, token=token, loopback=loopback) as client:
        found = []
        for method, path, body, _ in wanted:
            async with client.request(method, path, json=body, headers=headers) as response:
                found.append((method, path, body, response.status))
                assert ("WWW-Authenticate" in response.headers) == (response.status == 401)
                if response.status >= 400:
                    assert set(await response.json()) == {"error", "hint", "rule"}
    assert found == wanted
    assert bool(node.asked) == (command == 200)


async def test_all_routes_are_in_the_table_above():
    app = make_app(FakeNode(), "", True)
    paths = {resource.canonical for resource in app.router.resources()}
    assert paths == {*PROBES, *(path.partition("?")[0] for path in QUESTIONS), *COMMANDS}


@pytest.mark.parametrize("path", [*PROBES, *QUESTIONS, *COMMANDS])
async def test_the_readme_names_every_route(path):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert re.search(rf"^\|.*`{re.escape(path.partition('?')[0])}[`?]", readme, re.MULTILINE)


async def test_without_a_token_the_answer_says_how_to_give_one():
    async with asking(FakeNode(), token="") as client:
        status, answer = await call(client, "/v1/resign", body={})
    assert status == 403
    assert "PEERUPGRADE_TOKEN" in answer["hint"]
    assert "--token-file" in answer["hint"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:99", 200),
        ("localhost:99", 200),
        ("LOCALHOST", 200),
        ("[::1]:99", 200),
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("10.0.0.1", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
async def test_a_rebound_name_reaches_nothing_on_loopback(host, expected):
    async with asking(FakeNode()) as client:
        for path in ("/v1/node", "/livez"):
            status, _ = await call(client, path, headers={"Host": host})
            assert status == expected


async def test_beyond_loopback_any_name_is_right():
    async with asking(FakeNode(), loopback=False) as client:
        status, _ = await call(client, "/v1/node", headers={**BEARER, "Host": "n1.example"})
    assert status == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:99", 200),
        ("http://127.0.0.1:98", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
async def test_a_foreign_page_commands_nothing_even_with_the_token(origin, expected, loopback):
    node = FakeNode()
    headers = {**BEARER, "Host": "127.0.0.1:99", "Origin": origin}
    async with asking(node, loopback=loopback) as client:
        status, _ = await call(client, "/v1/resign", body={}, headers=headers)
    assert status == expected
    assert bool(node.asked) == (expected == 200)


# --- questions ------------------------------------------------------------------------------------


async def test_probes_tell_a_dead_loop_and_a_node_that_does_not_operate():
    node = FakeNode()
    async with asking(node) as client:
        assert await call(client, "/livez") == (200, {"live": True})
        assert await call(client, "/readyz") == (
            200,
            {"ready": True, "state": "operating", "reason": ""},
        )
        node.is_live = False
        node.node_status = replace(
            node.node_status, operating=None, state=NodeState.SUSPENDED, reason="its lease ended"
        )
        assert await call(client, "/livez") == (503, {"live": False})
        assert await call(client, "/readyz") == (
            503,
            {"ready": False, "state": "suspended", "reason": "its lease ended"},
        )


async def test_the_node_says_what_it_is():
    async with asking(FakeNode()) as client:
        _, answer = await call(client, "/v1/node")
    assert answer == {
        "name": "n1",
        "state": "operating",
        "ready": True,
        "reason": "",
        "installed": "2.0",
        "lowest_supported": "1.0",
        "operating": "1.0",
        "acting": "1.0",
        "revision": 12,
        "incarnation": 3,
        "master": True,
        "epoch": 4,
        "store_failure": "",
        "quorum_lost": False,
        "failure": "",
        "before_failure": "",
        "master_silent_s": 0.5,
    }


async def test_the_cluster_fits_one_answer():
    node = FakeNode()
    async with asking(node) as client:
        _, answer = await call(client, "/v1/cluster")
    assert answer["now"] == "2026-05-28T20:26:40.123Z"
    assert answer["now_ms"] == NOW_MS
    assert (answer["live"], answer["note"], answer["asked"]) == (True, "", "n1")
    assert (answer["acting"], answer["data"], answer["settled"]) == ("1.0", "1.0", True)
    assert (answer["master"], answer["epoch"], answer["revision"]) == ("n1", 4, 12)
    assert answer["raising_to"] is None
    assert answer["hold"] is None
    assert answer["members"] == 2
    assert list(answer["members_by_installed"].items()) == [("2.0", 1), ("1.0", 1)]
    assert answer["blockers"] == 1
    assert answer["completion"]["duration_s"] == 3600.0
    assert answer["upgrade"]["started_at_ms"] == NOW_MS - 2 * HOUR_MS


async def test_a_raise_under_way_names_its_target():
    node = FakeNode()
    raising = replace(RECORD, floor=V2)
    node.the_ledger = replace(node.the_ledger, snapshot=replace(SNAPSHOT, record=raising))
    async with asking(node) as client:
        _, answer = await call(client, "/v1/cluster")
    assert answer["raising_to"] == "2.0"


async def test_the_node_may_remember_more_than_was_read_last():
    node = FakeNode()
    node.store_is_away()
    newest = replace(RECORD, revision=13, acting=V2)
    node.node_status = replace(node.node_status, record=newest)
    async with asking(node) as client:
        _, answer = await call(client, "/v1/cluster")
        assert (answer["acting"], answer["revision"]) == ("2.0", 13)
        # What it remembers of another cluster, or of a mastership that is over, is worth nothing.
        for stale in (replace(newest, generation="g0"), replace(newest, epoch=3)):
            node.node_status = replace(node.node_status, record=stale)
            _, answer = await call(client, "/v1/cluster")
            assert (answer["acting"], answer["revision"]) == ("1.0", 12)


async def test_members_are_sorted_and_their_tokens_stay_secret():
    node = FakeNode()
    backwards = dict(reversed(SNAPSHOT.members.items()))
    node.the_ledger = replace(node.the_ledger, snapshot=replace(SNAPSHOT, members=backwards))
    node.the_gossip = None
    async with asking(node) as client:
        _, answer = await call(client, "/v1/members")
    assert [member["name"] for member in answer["members"]] == ["n1", "n2"]
    assert [member["condition"] for member in answer["members"]] == [None, None]
    assert [member["master"] for member in answer["members"]] == [True, False]
    assert [member["policy"] for member in answer["members"]] == ["freeze", "suspend"]
    assert answer["excluded"][0]["reason"] == "disk broken"
    assert "proof" not in json.dumps(answer)


async def members_by_name(node):
    async with asking(node) as client:
        status, answer = await call(client, "/v1/members")
    assert status == 200
    return {member["name"]: member for member in answer["members"]}, answer["note"]


async def test_members_say_what_gossip_knows_of_each():
    node = FakeNode()
    silent = replace(MEMBERS["n2"], id="n0")
    ledger = node.the_ledger
    members = {**SNAPSHOT.members, "n0": silent}
    node.the_ledger = replace(ledger, snapshot=replace(SNAPSHOT, members=members))
    found, note = await members_by_name(node)
    assert note == ""
    assert {name: (one["condition"], one["listed"]) for name, one in found.items()} == {
        "n0": ("unheard", True),
        "n1": ("alive", True),
        "n2": ("suspect", True),
        "n4": ("alive", False),
    }
    n2 = found["n2"]
    assert (n2["judged_by"], n2["last_heard_s"], n2["rtt_ms"]) == ("n4", 12.346, 0.432)
    assert n2["gossip_address"] == "10.0.0.2:7946"
    assert n2["source"] == "store"
    assert n2["zone"] == ""  # the store answers: its word counts
    assert (found["n4"]["source"], found["n4"]["installed"]) == ("gossip", "2.0")
    assert len({frozenset(one) for one in found.values()}) == 1  # all have the same fields


async def test_members_are_known_by_gossip_alone_when_the_store_never_answered():
    node = FakeNode()
    node.store_is_away()
    node.the_ledger = replace(node.the_ledger, snapshot=None)
    found, note = await members_by_name(node)
    assert "does not answer" in note
    assert "by gossip" in note
    assert {(one["listed"], one["source"]) for one in found.values()} == {(None, "gossip")}
    n2 = found["n2"]
    assert (n2["incarnation"], n2["standing"], n2["installed"]) == (1, "serving", "1.0")
    assert (n2["operating"], n2["lowest_supported"]) == ("1.0", "1.0")
    assert (n2["zone"], n2["labels"]) == ("west", {"rack": "7"})
    assert [name for name, one in found.items() if one["master"]] == ["n1"]


async def test_without_the_store_gossip_is_newer_than_what_was_read_last_unless_it_is_older():
    node = FakeNode()
    node.store_is_away()
    renewed = replace(MEMBERS["n1"], incarnation=4)  # gossip has heard of its third start only
    members = {"n1": renewed, "n2": replace(MEMBERS["n2"], installed=parse_version("0.9"))}
    node.the_ledger = replace(node.the_ledger, snapshot=replace(SNAPSHOT, members=members))
    found, _ = await members_by_name(node)
    assert (found["n2"]["source"], found["n2"]["installed"]) == ("gossip", "1.0")
    assert found["n2"]["policy"] == "suspend"  # which only the store knows
    assert (found["n1"]["source"], found["n1"]["incarnation"]) == ("store", 4)


async def test_the_topology_is_by_zone_and_counts_packets():
    async with asking(FakeNode()) as client:
        status, answer = await call(client, "/v1/topology")
    assert status == 200
    assert (answer["asked"], answer["gossip_address"]) == ("n1", "10.0.0.1:7946")
    names = {zone["zone"]: [node["name"] for node in zone["nodes"]] for zone in answer["zones"]}
    assert names == {"east": ["n1"], "west": ["n2", "n4"]}
    n2 = answer["zones"][1]["nodes"][0]
    assert (n2["condition"], n2["judged_by"], n2["rtt_ms"]) == ("suspect", "n4", 0.432)
    assert answer["traffic"] == {
        "sent": 120,
        "sent_bytes": 9876,
        "heard": 118,
        "unsent": {"no_route": 1},
        "refused": {"plain": 2, "unknown_key": 3},
    }


async def test_a_node_that_does_not_gossip_has_no_topology():
    node = FakeNode()
    node.the_gossip = None
    async with asking(node) as client:
        status, answer = await call(client, "/v1/topology")
    assert (status, answer["error"]) == (404, "n1 does not gossip")
    assert "--gossip" in answer["hint"]


async def test_why_names_every_blocker():
    async with asking(FakeNode()) as client:
        _, answer = await call(client, "/v1/why")
    assert answer["blockers"] == [
        {
            "code": "older_version",
            "subject": "n2",
            "since": "2026-05-28T18:26:40.123Z",
            "since_ms": NOW_MS - 2 * HOUR_MS,
            "evidence": "n2 has 1.0 installed, the newest is 2.0",
            "remedy": "install 2.0 on n2, or exclude it if it is gone for good",
        }
    ]


async def test_without_the_store_what_was_known_is_told_and_called_so():
    node = FakeNode()
    node.store_is_away()
    async with asking(node) as client:
        for path in ("/v1/why", "/v1/cluster", "/v1/members"):
            status, answer = await call(client, path)
            assert status == 200
            assert answer["live"] is False
            assert "does not answer" in answer["note"]
            assert answer["now_ms"] == NOW_MS - 5000
        node.the_ledger = replace(node.the_ledger, snapshot=None)
        node.the_gossip = replace(GOSSIP, sightings={})
        _, answer = await call(client, "/v1/cluster")
        assert (answer["acting"], answer["members"]) == ("1.0", None)
        assert (await call(client, "/v1/why"))[0] == 200
        status, answer = await call(client, "/v1/members")
        assert (status, answer["error"]) == (503, "the members are not known")


async def test_a_cluster_without_a_record_is_all_null():
    node = FakeNode()
    node.the_ledger = replace(node.the_ledger, snapshot=None)
    node.node_status = replace(node.node_status, record=None, acting=None)
    async with asking(node) as client:
        status, answer = await call(client, "/v1/cluster")
    assert status == 200
    assert (answer["acting"], answer["revision"], answer["raised_at"]) == (None, 0, None)


async def test_the_history_is_cut_to_the_count():
    node = FakeNode()
    node.entries = [{**node.entries[0], "id": f"{n}-0"} for n in range(30)]
    async with asking(node) as client:
        _, answer = await call(client, "/v1/history")
        assert len(answer["entries"]) == 20
        _, answer = await call(client, "/v1/history?count=2")
    assert [entry["id"] for entry in answer["entries"]] == ["0-0", "1-0"]
    assert answer["entries"][0]["at_ms"] == NOW_MS
    assert (answer["entries"][0]["before"], answer["entries"][0]["after"]) == ("0.9", "1.0")


async def test_an_entry_of_an_older_release_may_lack_fields():
    node = FakeNode()
    node.entries = [{"id": "1-0"}]
    async with asking(node) as client:
        status, answer = await call(client, "/v1/history")
    assert status == 200
    assert answer["entries"][0]["at"] is None


async def test_the_doctor_reports_in_order():
    async with asking(FakeNode()) as client:
        _, answer = await call(client, "/v1/doctor")
    assert [finding["level"] for finding in answer["findings"]] == ["ok", "warning"]
    assert answer["findings"][1]["hint"] == "install the same"


# --- waiting --------------------------------------------------------------------------------------


async def test_the_acting_version_comes_at_once_with_its_revision():
    node = FakeNode()
    async with asking(node) as client, client.get("/v1/acting") as response:
        assert response.headers["Peerupgrade-Revision"] == "12"
        answer = await response.json()
    assert answer == {
        "acting": "1.0",
        "operating": "1.0",
        "state": "operating",
        "settled": True,
        "data": "1.0",
        "generation": "g1",
        "revision": 12,
    }
    assert node.asked == []


async def test_a_long_poll_answers_when_a_newer_revision_is_there():
    node = FakeNode()
    node.newer = asyncio.Event()
    async with asking(node) as client:
        poll = asyncio.create_task(call(client, "/v1/acting?wait=12&timeout_s=20"))
        await asyncio.sleep(0.05)
        assert not poll.done()
        newest = replace(RECORD, revision=13, acting=V2)
        node.node_status = replace(node.node_status, record=newest, acting=V2, operating=V2)
        node.newer.set()
        status, answer = await asyncio.wait_for(poll, 5)
    assert (status, answer["acting"], answer["operating"]) == (200, "2.0", "2.0")
    assert node.asked == [(12, 20.0)]


async def test_a_long_poll_ends_with_what_is_known():
    node = FakeNode()
    node.newer = asyncio.Event()
    async with asking(node) as client:
        status, answer = await call(client, "/v1/acting?wait=12&timeout_s=0.05")
    assert (status, answer["revision"]) == (200, 12)


async def test_a_node_without_a_record_cannot_tell_the_acting_version():
    node = FakeNode()
    node.node_status = replace(node.node_status, record=None, acting=None)
    async with asking(node) as client:
        status, answer = await call(client, "/v1/acting")
    assert status == 503
    assert "no cluster record" in answer["error"]


async def next_event(response):
    while True:
        line = await asyncio.wait_for(response.content.readline(), 5)
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            assert await response.content.readline() == b"\n"
            return json.loads(line[6:])


async def test_events_begin_with_where_things_stand_and_follow_in_order():
    node = FakeNode()
    async with asking(node) as client, client.get("/v1/events") as response:
        assert response.content_type == "text/event-stream"
        first = await next_event(response)
        assert (first["event"], first["detail"]) == ("watching", "acting at 1.0")
        while not node.streams:
            await asyncio.sleep(0.01)
        node.streams[0].put_nowait(event("raised", "to 2.0\n\ndata: forged"))
        node.streams[0].put_nowait(event("settled"))
        second = await next_event(response)
        assert second == {
            "at": "2026-05-28T20:26:40.123Z",
            "at_ms": NOW_MS,
            "node": "n1",
            "event": "raised",
            "detail": "to 2.0\n\ndata: forged",
            "revision": 12,
        }
        assert (await next_event(response))["event"] == "settled"


async def test_a_silent_stream_is_kept_alive_and_a_client_that_left_is_noticed(monkeypatch):
    monkeypatch.setattr(api, "_KEEP_ALIVE_S", 0.02)
    node = FakeNode()
    async with asking(node) as client:
        async with client.get("/v1/events") as response:
            await next_event(response)
            assert await asyncio.wait_for(response.content.readline(), 5) == b": still here\n"
            assert len(node.streams) == 1
        async with asyncio.timeout(5):
            while node.streams:
                await asyncio.sleep(0.01)


async def test_stopping_ends_streams_and_long_polls_at_once():
    node = FakeNode()
    node.newer = asyncio.Event()
    server = HttpServer(node, "127.0.0.1:0", "secret")
    url = await server.start()
    async with aiohttp.ClientSession(url) as client:
        poll = asyncio.create_task(client.get("/v1/acting?wait=12"))
        async with client.get("/v1/events") as response:
            await next_event(response)
            began_s = time.monotonic()
            await server.stop()
            assert time.monotonic() - began_s < api._SHUTDOWN_S / 2
            with pytest.raises((aiohttp.ClientError, AssertionError)):
                await next_event(response)
        with pytest.raises(aiohttp.ClientError):
            await poll
    assert node.streams == []


# --- commands -------------------------------------------------------------------------------------


async def test_a_hold_ends_by_the_clock_of_the_store():
    node = FakeNode()
    async with asking(node) as client:
        body = {"by": "ann", "reason": "closing", "for_s": 7200}
        status, answer = await call(client, "/v1/hold", body=body)
        await call(client, "/v1/hold", body={"by": "ann", "reason": "closing"})
    assert node.asked == [
        SetHold("ann", "closing", NOW_MS + 2 * HOUR_MS),
        SetHold("ann", "closing", 0),
    ]
    assert status == 200
    assert answer["cluster"]["hold"]["until_ms"] == NOW_MS + HOUR_MS


async def test_a_hold_with_an_end_needs_the_store():
    node = FakeNode()
    node.store_is_away()
    async with asking(node) as client:
        body = {"by": "ann", "reason": "closing", "for_s": 7200}
        status, answer = await call(client, "/v1/hold", body=body)
    assert (status, node.asked) == (503, [])
    assert "timed out" in answer["hint"]


async def test_a_hold_that_a_failover_could_forget_is_not_acknowledged():
    node = FakeNode()
    node.reply = Done(View(RECORD, "server1"), durable=False)
    async with asking(node) as client:
        status, answer = await call(client, "/v1/hold", body=COMMANDS["/v1/hold"])
    assert status == 503
    assert "replicas" in answer["error"]


async def test_release_exclude_and_away_are_handed_on():
    node = FakeNode()
    async with asking(node) as client:
        await call(client, "/v1/release", body={"by": "ann", "reason": "done"})
        body = {"name": "n2", "by": "ann", "reason": "gone"}
        assert await call(client, "/v1/exclude", body=body) == (200, {"excluded": "n2"})
        assert await call(client, "/v1/away", body={"away": True}) == (200, {"away": True})
        assert await call(client, "/v1/resign", body={}) == (200, {"resigned": True})
    assert node.asked == [
        ReleaseHold("ann", "done"),
        ("n2", "ann", "gone", False),
        ("away", True),
        "resign",
    ]


async def test_slots_are_handed_on():
    node = FakeNode()
    async with asking(node) as client:
        for path in ("/v1/slot/take", "/v1/slot/return"):
            status, answer = await call(client, path, body=COMMANDS[path])
            assert (status, answer["cluster"]["epoch"]) == (200, 4)
        await call(client, "/v1/slot/take", body={"name": "n2", "by": "ann"})
        await call(client, "/v1/slot/return", body={"name": "n2", "by": "ann"})
        node.error = KeyError("n9")
        status, _ = await call(client, "/v1/slot/take", body={"name": "n9", "by": "ann"})
    assert status == 404
    assert node.asked[:4] == [
        TakeSlot("n2", "ann", 2),
        ReturnSlot("n2", "ann", Outcome.UNUSED),
        TakeSlot("n2", "ann", 1),
        ReturnSlot("n2", "ann", Outcome.UP),
    ]


async def test_only_the_master_resigns():
    node = FakeNode()
    node.master = False
    async with asking(node) as client:
        status, answer = await call(client, "/v1/resign", body={})
    assert status == 409
    assert answer == {"error": "n1 is not master", "hint": "ask n1", "rule": "not_master"}


# --- before it happens ----------------------------------------------------------------------------

PLAN = {"version": "2.0", "lowest_supported": "1.0"}
NOTES = CollectionView({"1.0": 80}, began_at_ms=0)


async def test_a_plan_is_one_answer():
    node = FakeNode()
    announced = {"steps": ("before 2.0",), "collections": {"notes": ("1.0", "2.0")}}
    members = {**MEMBERS, "n1": replace(MEMBERS["n1"], zone="z1", **announced)}
    members["n2"] = replace(MEMBERS["n2"], lease_until_ms=NOW_MS + 1)
    end = RolloutEnd("4.1", "1.0", 1, 2, turns_done=2, turns_took_ms=3000)
    last = replace(RECORD, rollout_end=end)
    node.knows(record=last, members=members, collections={"notes": NOTES}, slots={})
    node.rehearsals = [Rehearsal("notes", "2.0", {"1.0": 80}, sampled=8, converted=8, looked_at=8)]
    body = {**PLAN, "sample": 8, "budget": "50%", "bake_s": 60, "windows": ["sun 02:00-04:00"]}
    async with asking(node) as client:
        status, answer = await call(client, "/v1/upgrade/plan", body=body)
    assert status == 200
    assert node.asked == [("2.0", 8)]
    assert (answer["ok"], answer["in_the_way"], answer["live"]) == (True, [], True)
    assert (answer["version"], answer["lowest_supported"]) == ("2.0", "1.0")
    assert (answer["acting"], answer["data"], answer["in_between"]) == ("1.0", "1.0", None)
    assert answer["order"] == [
        {
            "name": "n2",
            "installed": "1.0",
            "zone": "",
            "standing": "serving",
            "answers": True,
            "master": False,
            "hands_over": False,
            "slot_by": None,
        }
    ]
    sunday = {"begins_at": "2026-05-31T02:00:00.000Z", "begins_at_ms": 1_780_192_800_000}
    assert answer["batches"] == [{"nodes": ["n2"], "after": "place", **sunday}]
    assert (answer["opens_at"], answer["opens_at_ms"]) == tuple(sunday.values())
    assert (answer["turn_s"], answer["lasts_s"], answer["skipped"]) == (1.5, 61.5, [])
    how = answer["strategy"]
    assert (how["budget"], how["budget_percent"], how["bake_s"]) == (1, 50, 60.0)
    assert (how["windows"], how["on_unhealthy"]) == (["sun 02:00-04:00"], "pause")
    (done,) = answer["done"]
    assert (done["name"], done["master"], done["slot_by"]) == ("n1", True, None)
    assert answer["zones"] == [
        {"zone": "", "members": 1, "serving": 1, "down_max": 1},
        {"zone": "z1", "members": 1, "serving": 1, "down_max": 0},
    ]
    assert answer["steps"] == [{"phase": "before", "version": "2.0", "nodes": ["n1"]}]
    (notes,) = answer["collections"]
    assert (notes["name"], notes["format"], notes["to_convert"]) == ("notes", "2.0", 80)
    assert notes["records_by_format"] == {"1.0": 80}
    assert (notes["rehearsal"]["sampled"], notes["rehearsal"]["failed"]) == (8, 0)
    assert [one["code"] for one in answer["blockers"]] == ["older_version"]
    assert (answer["hold"], answer["not_rehearsed"]) == (None, "")


async def test_a_plan_leaves_members_out_and_no_others():
    node = FakeNode()
    async with asking(node) as client:
        _, answer = await call(client, "/v1/upgrade/plan", body={**PLAN, "skip": ["n2"]})
        status, refused = await call(client, "/v1/upgrade/plan", body={**PLAN, "skip": ["n9"]})
    assert (answer["order"], answer["batches"], answer["skipped"]) == ([], [], ["n2"])
    assert (answer["opens_at"], answer["lasts_s"]) == (None, None)
    assert (status, refused["error"]) == (404, "there is no member 'n9'")


async def test_a_downgrade_is_planned_by_the_rules_that_it_is_done_by():
    node = FakeNode()
    back = {"upgrade": None, "acting": parse_version("2.0"), "data": parse_version("2.0")}
    back |= {"floor": parse_version("2.0"), "settled_revision": RECORD.raised_revision}
    members = {
        "n1": replace(MEMBERS["n1"], installed=parse_version("2.0"), lowest=parse_version("0.9"))
    }
    node.knows(record=replace(RECORD, **back), members=members, collections={"notes": NOTES})
    async with asking(node) as client:
        _, go = await call(client, "/v1/downgrade/plan", body={"version": "1.0"})
        _, no = await call(client, "/v1/downgrade/plan", body={"version": "0.9"})
    assert (go["ok"], go["acting"], go["version"], go["forbidden_by"]) == (True, "2.0", "1.0", [])
    assert no["ok"] is False
    assert no["forbidden_by"] == [
        {
            "rule": "newer_records",
            "evidence": "80 records of 'notes' are in the format of 1.0, which 0.9 cannot read",
            "remedy": "stay, or remove these records of 'notes' first; they are not converted back",
        }
    ]


async def test_a_downgrade_is_asked_for():
    node = FakeNode()
    async with asking(node) as client:
        status, answer = await call(
            client, "/v1/downgrade/start", body=COMMANDS["/v1/downgrade/start"]
        )
    assert (status, answer["cluster"]["downgrades"]) == (200, 0)
    assert node.asked == [GoBack("0.9", "ann", "slow")]


async def test_a_plan_says_what_stands_in_its_way():
    node = FakeNode()
    node.knows(silent={"n1"}, record=replace(RECORD, hold=HOLD))
    body = {"version": "3.0", "lowest_supported": "2.0"}
    async with asking(node) as client:
        _, answer = await call(client, "/v1/upgrade/plan", body=body)
    assert answer["ok"] is False
    assert answer["hold"]["by"] == "ann@desk"
    assert [(one["code"], one["subject"]) for one in answer["in_the_way"]] == [
        ("lowest_supported", ""),
        ("unresponsive", "n2"),  # its lease has ended
        ("unresponsive", "n1"),
        ("hold", ""),
    ]
    assert answer["in_between"] == {
        "exists": True,
        "at_least": "2.0",
        "below": "3.0",
        "must_support": "1.0",
    }


async def test_a_plan_goes_without_a_rehearsal_and_says_why():
    class WithoutCodecs(FakeNode):
        async def rehearse(self, version, sample):
            raise RefusedError("n1 has no codecs", rule="no_codecs", hint="ask n2")

    node = WithoutCodecs()
    async with asking(node) as client:
        _, answer = await call(client, "/v1/upgrade/plan", body=PLAN)
        assert (answer["not_rehearsed"], answer["collections"]) == ("", [])  # there is no data
        node.knows(collections={"notes": NOTES})
        status, answer = await call(client, "/v1/upgrade/plan", body=PLAN)
    assert (status, answer["not_rehearsed"]) == (200, "n1 has no codecs: ask n2")
    (notes,) = answer["collections"]
    assert (notes["rehearsal"], notes["format"], notes["to_convert"]) == (None, None, None)


async def test_a_plan_needs_something_that_is_known():
    node = FakeNode()
    node.store_is_away()
    async with asking(node) as client:
        _, answer = await call(client, "/v1/upgrade/plan", body=PLAN)
        assert answer["live"] is False
        node.the_ledger = replace(node.the_ledger, snapshot=None)
        status, answer = await call(client, "/v1/upgrade/plan", body=PLAN)
    assert status == 503
    assert "does not answer" in answer["hint"]


@pytest.mark.parametrize(
    ("versions", "ok", "standings", "rule"),
    [
        (("2.0", "1.0"), True, ("serving", "serving"), ""),
        (("3.0", "2.0"), False, (None, "standby"), "lowest_above_acting"),
        (("0.9", "0"), False, (None, None), "installed_below_acting"),
    ],
)
async def test_whether_a_version_may_be_deployed(versions, ok, standings, rule):
    path = "/v1/can-deploy?version={}&lowest_supported={}".format(*versions)
    async with asking(FakeNode()) as client:
        status, answer = await call(client, path, headers={})
    assert (status, answer["ok"]) == (200, ok)
    assert (answer["version"], answer["lowest_supported"], answer["acting"]) == (*versions, "1.0")
    assert (answer["new_node"]["standing"], answer["member"]["standing"]) == standings
    assert answer["new_node"]["rule"] == answer["member"]["rule"] == rule
    assert bool(answer["error"]) == bool(answer["hint"]) == (not ok)


async def test_without_the_store_nobody_can_say_what_may_be_deployed():
    node = FakeNode()
    node.store_is_away()
    async with asking(node) as client:
        status, answer = await call(client, "/v1/can-deploy?version=2.0&lowest_supported=1.0")
    assert (status, answer["error"]) == (503, "the store does not answer")


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/can-deploy?lowest_supported=1.0", None, "version is missing"),
        ("/v1/can-deploy?version=2.0", None, "lowest_supported is missing"),
        ("/v1/can-deploy?version=two&lowest_supported=1.0", None, "version 'two'"),
        ("/v1/can-deploy?version=2.0&lowest_supported=3.0", None, "above the installed version"),
        ("/v1/upgrade/plan", {"version": "two"}, "version 'two'"),
        ("/v1/upgrade/plan", {"version": "2.0", "lowest_supported": "3.0"}, "above the installed"),
        ("/v1/upgrade/plan", {"version": "2.0", "sample": 0}, "sample"),
    ],
)
async def test_a_version_that_cannot_be_is_the_client_s_fault(path, body, said):
    async with asking(FakeNode()) as client:
        status, answer = await call(client, path, body=body)
    assert status == 400
    assert said in answer["error"]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/hold", '{"by": "ann"}', "reason"),
        ("/v1/hold", '{"by": "", "reason": "x"}', "by"),
        ("/v1/hold", '{"by": "ann", "reason": 1}', "reason"),
        ("/v1/hold", '{"by": "ann", "reason": "x\\u001b[2J"}', "reason"),
        ("/v1/hold", '{"by": "ann", "reason": "x", "for_s": 0}', "for_s"),
        ("/v1/hold", '{"by": "ann", "reason": "x", "for_s": "2h"}', "for_s"),
        ("/v1/hold", '{"by": "ann", "reason": "x", "for_s": NaN}', "JSON"),
        ("/v1/hold", '{"by": "ann", "reason": "x", "until": 5}', "until"),
        ("/v1/hold", '["by", "reason"]', "object"),
        ("/v1/hold", '{"by": "ann"', "JSON"),
        ("/v1/hold", "by=ann&reason=x", "JSON"),
        ("/v1/hold", b'{"by": "\xff", "reason": "x"}', "JSON"),
        ("/v1/hold", "", "by"),
        (
            "/v1/exclude",
            '{"name": "n2", "by": "a", "reason": "x", "confirm_stopped": 1}',
            "confirm",
        ),
        ("/v1/slot/take", '{"name": "n2", "by": "a", "budget": 0}', "budget"),
        ("/v1/slot/return", '{"name": "n2", "by": "a", "outcome": "lost"}', "outcome"),
        ("/v1/away", '{"away": "yes"}', "away"),
        ("/v1/data/resolve", '{"collection": "c", "verdict": "burn", "by": "a"}', "verdict"),
        ("/v1/resign", '{"now": true}', "now"),
        ("/v1/upgrade/change", '{"by": "a", "canary": "1"}', "canary is '1'"),
        ("/v1/upgrade/change", '{"by": "a", "soak_s": -1}', "soak_s is -1"),
        ("/v1/upgrade/change", '{"by": "a", "one_zone": 1}', "one_zone"),
        ("/v1/upgrade/change", '{"by": "a", "windows": [["sun"]]}', "the window"),
        ("/v1/upgrade/change", '{"by": "a", "windows": "sun"}', "windows"),
        (
            "/v1/upgrade/change",
            f'{{"by": "a", "windows": ["{"sun," * 30}sun 00:00-24:00"]}}',
            "the window",
        ),
        ("/v1/upgrade/change", '{"by": "a", "on_unhealthy": []}', "on_unhealthy"),
        ("/v1/upgrade/change", '{"by": "a", "budget": 2.5}', "budget '2.5'"),
        ("/v1/upgrade/change", '{"by": "a", "bugdet": 2}', "bugdet"),
        ("/v1/upgrade/change", '{"canary": 1}', "by"),
        ("/v1/upgrade/plan", '{"version": "2.0", "canary": 1001}', "canary"),
        ("/v1/upgrade/plan", '{"version": "2.0", "by": "a"}', "by"),
        ("/v1/upgrade/start", "[1]", "object"),
        ("/v1/upgrade/start", "{", "JSON"),
    ],
)
async def test_a_wrong_body_is_refused_by_the_name_of_its_field(path, body, named):
    node = FakeNode()
    async with asking(node) as client, client.post(path, data=body, headers=BEARER) as response:
        assert response.status == 400
        assert named in (await response.json())["error"]
    assert node.asked == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("history?count=many", "count"),
        ("history?count=-1", "count"),
        ("history?count=1001", "count"),
        ("acting?wait=x", "wait"),
        ("acting?wait=1&timeout_s=nan", "timeout_s"),
        ("acting?wait=1&timeout_s=301", "timeout_s"),
    ],
)
async def test_a_wrong_number_is_refused_by_its_name(query, named):
    async with asking(FakeNode()) as client:
        status, answer = await call(client, f"/v1/{query}")
    assert status == 400
    assert answer["error"].startswith(f"{named} is ")


async def test_a_body_has_a_limit():
    node = FakeNode()
    async with asking(node) as client:
        status, _ = await call(client, "/v1/hold", body={"by": "a", "reason": "x" * 70_000})
        assert status == 413
        # Within the limit it is the field that is too long.
        status, answer = await call(client, "/v1/hold", body={"by": "a", "reason": "x" * 60_000})
    assert status == 400
    assert "reason" in answer["error"]
    assert node.asked == []


async def test_unknown_paths_and_methods_are_json_too():
    async with asking(FakeNode()) as client:
        assert (await call(client, "/v1/nothing"))[0] == 404
        assert (await call(client, "/v1/hold"))[0] == 405
        assert (await call(client, "/v1/node", body={}))[0] == 405


async def test_a_refusal_carries_its_rule_and_hint():
    node = FakeNode()
    node.error = RefusedError(
        "node 'n2' goes on through outages and may be alive",
        rule="may_be_alive",
        hint="make sure that its process is stopped, then: --confirm-stopped",
    )
    async with asking(node) as client:
        status, answer = await call(client, "/v1/exclude", body=COMMANDS["/v1/exclude"])
    assert status == 409
    assert answer == {
        "error": "node 'n2' goes on through outages and may be alive",
        "hint": "make sure that its process is stopped, then: --confirm-stopped",
        "rule": "may_be_alive",
    }


async def test_an_unknown_member_is_not_found():
    async with asking(FakeNode()) as client:
        body = {**COMMANDS["/v1/exclude"], "name": "n9"}
        status, answer = await call(client, "/v1/exclude", body=body)
    assert status == 404
    assert "'n9'" in answer["error"]


async def test_a_store_that_does_not_answer_is_a_503():
    node = FakeNode()
    node.error = UnavailableError("the store does not answer", hint="start it")
    async with asking(node) as client:
        status, answer = await call(client, "/v1/history")
    assert status == 503
    assert answer == {"error": "the store does not answer", "hint": "start it", "rule": ""}


async def test_a_defect_is_logged_and_not_told(caplog):
    node = FakeNode()
    node.error = ValueError("redis://:password@store")
    async with asking(node) as client:
        status, answer = await call(client, "/v1/doctor")
    assert status == 500
    assert "password" not in json.dumps(answer)
    assert "/v1/doctor failed" in caplog.text


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "base"),
    [
        ("127.0.0.1:0", "http://127.0.0.1:"),
        ("localhost:0", "http://localhost:"),
        ("0.0.0.0:0", "http://127.0.0.1:"),
    ],
)
async def test_the_server_tells_the_address_that_it_really_has(listen, base):
    server = HttpServer(FakeNode(), listen, "secret")
    url = await server.start()
    try:
        assert url.startswith(base)
        assert not url.endswith(":0")
        async with aiohttp.ClientSession(url) as client:
            status, _ = await call(client, "/v1/node", headers=BEARER)
            assert status == 200
            # Whether it is on loopback is told from where it listens.
            status, _ = await call(client, "/v1/node", headers={})
            assert status == (401 if listen.startswith("0.") else 200)
    finally:
        await server.stop()


async def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="another program does") as caught:
            await HttpServer(FakeNode(), listen, "").start()
    assert listen in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        await HttpServer(FakeNode(), "192.0.2.1:0", "secret").start()
