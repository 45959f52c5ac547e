"""A cancellation is never lost in a library that swallows it."""

import asyncio
from contextlib import suppress

import pytest

from peerupgrade.adapters.redis_scripts import cancellable

pytestmark = pytest.mark.asyncio


async def cancelled(work):
    """Begin the work, cancel it, and wait for its end."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError, ConnectionError):
        await task
    return task.cancelled()


async def test_a_cancellation_that_was_swallowed_is_raised_at_the_end():
    async def work():
        with cancellable(), suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    assert await cancelled(work())


async def test_a_cancellation_that_met_a_failure_is_what_counts():
    async def work():
        with cancellable():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError from None

    assert await cancelled(work())


async def test_a_failure_alone_stays_what_it_is():
    async def work():
        with cancellable():
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await work()
