"""The probes that the settings of a node name, against real listeners and programs."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from peerupgrade.cli.health import health_checks, probing
from peerupgrade.cli.sources import Extra
from peerupgrade.core.health import Probing
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.health import Checks

pytestmark = pytest.mark.asyncio


async def asked(**settings):
    """Why the program is not well, by its probes; "" if it is."""
    extra = Extra(**settings)
    made = Checks()
    for check in health_checks(extra):
        made.register(check, probing(extra))
    return await made.run()


@contextlib.asynccontextmanager
async def serving(status, headers=None):
    async def answer(_):
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/healthz", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/healthz"))


@pytest.mark.parametrize("status", [200, 204, 302])
async def test_a_url_that_answers_so_is_well(status):
    async with serving(status, {"Location": "/nowhere"}) as url:
        assert await asked(health_url=url) == ""


@pytest.mark.parametrize("status", [404, 503])
async def test_a_url_that_answers_otherwise_is_not(status):
    async with serving(status) as url:
        assert await asked(health_url=url) == f"{url} answers {status}"


async def test_an_address_that_takes_a_connection_is_well():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    async with server:
        assert await asked(health_address=address) == ""
    assert (await asked(health_address=address)).startswith(f"{address} does not listen")
    assert "does not answer" in await asked(health_url=f"http://{address}/")


async def test_a_program_that_succeeds_is_well():
    assert await asked(health_command="true") == ""
    said = await asked(health_command="sh -c 'echo no database >&2; exit 3'")
    assert said.endswith("failed with status 3: no database")


async def test_every_probe_must_be_content():
    said = await asked(health_command="false", health_address="127.0.0.1:1")
    assert "127.0.0.1:1 does not listen" in said


async def test_settings_say_how_often_and_how_many():
    extra = Extra(
        health_interval_s=1.0,
        health_timeout_s=0.5,
        health_failures=4,
        health_successes=2,
        step_timeout_s=60.0,
    )
    assert probing(extra) == Probing(1.0, 0.5, 4, 2, 60.0)
    assert health_checks(extra) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("health_interval_s", 0.0),
        ("health_timeout_s", -1.0),
        ("health_failures", 0),
        ("health_successes", 0),
        ("health_url", "localhost:8000"),
        ("health_address", "localhost"),
    ],
)
async def test_what_cannot_be_used_is_refused(name, value):
    extra = Extra(**{name: value})
    with pytest.raises(ConfigError):
        health_checks(extra) or probing(extra)
