"""The servers that the contract is tested on."""

import asyncio
import itertools

import pytest

from peerupgrade.adapters.embedded import EmbeddedServer, available_servers

SERVERS = available_servers()
_names = (f"contract-{number}" for number in itertools.count())


def server_id(binary):
    return "memory" if binary is None else f"{binary.name}-{'.'.join(map(str, binary.version))}"


def _started(binary, tmp_path_factory):
    if binary is None:
        yield None
        return
    server = EmbeddedServer(tmp_path_factory.mktemp("server"), binary=binary)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session", params=[None, *SERVERS], ids=server_id)
def place(request, tmp_path_factory):
    """A running server, or None: in memory."""
    yield from _started(request.param, tmp_path_factory)


@pytest.fixture(params=SERVERS, ids=server_id)
def binary(request):
    """A server program, for tests that do things to a server of their own."""
    return request.param


@pytest.fixture
def name():
    """A cluster that nobody has used."""
    return next(_names)
