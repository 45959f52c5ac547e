"""What a node tells the program in which it runs."""

import asyncio

import pytest

import peerupgrade

pytestmark = pytest.mark.asyncio


async def test_why_it_ended_is_told_although_it_was_stopped_at_the_same_moment(monkeypatch):
    node = peerupgrade.Node(peerupgrade.Settings(name="a", installed="1.0"))
    excluded = peerupgrade.RefusedError("excluded")
    said = iter([None, excluded])  # and nothing any more, once it is stopping
    monkeypatch.setattr(node, "_ended", lambda: next(said, None))
    ended = asyncio.create_task(node.ended())
    await asyncio.sleep(0)
    node._waiters.look()
    assert await ended is excluded
