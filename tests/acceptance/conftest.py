import pytest
import pytest_asyncio

from peerupgrade.adapters.embedded import EmbeddedServer, available_servers
from tests.acceptance.agents import Agents
from tests.acceptance.cluster import Cluster

SERVERS = available_servers()


@pytest.fixture(params=SERVERS, ids=lambda binary: f"{binary.name}-{binary.version[0]}")
def binary(request):
    return request.param


@pytest_asyncio.fixture
async def server(binary, tmp_path):
    async with EmbeddedServer(tmp_path / "server", binary=binary) as running:
        yield running


@pytest_asyncio.fixture
async def cluster(server, tmp_path):
    async with Cluster(server.url, tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def store(tmp_path):
    """For tests that are not about servers: one of them, by default."""
    async with EmbeddedServer(tmp_path / "store") as running:
        yield running


@pytest.fixture
def agents(store, tmp_path, monkeypatch, capsys):
    made = Agents(store.url, tmp_path, monkeypatch, capsys)
    yield made
    made.end()
