"""Gossip runs on both event loops that people use; whatever else there is here, on the default."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    if item.path.name == "test_gossip_link.py":
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
