"""What is written to disks: one thing after another, and whoever waits is told."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from peerupgrade.core.effects import Memory, Remember
from peerupgrade.runtime.driver import Driver, Ports
from peerupgrade.runtime.saver import Saver

pytestmark = pytest.mark.asyncio


async def done(saver, work):
    """Have it done; why it failed, or None."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    saver.do(work, lambda error: loop.call_soon_threadsafe(future.set_result, error))
    return await asyncio.wait_for(future, 5)


async def test_one_thing_after_another_and_not_in_the_loop():
    saver, order = Saver(), []
    gate = threading.Event()

    def first():
        gate.wait(5)
        order.append(("first", threading.current_thread()))

    def second():
        order.append(("second", threading.current_thread()))

    both = asyncio.gather(done(saver, first), done(saver, second))
    await asyncio.sleep(0.05)
    assert order == []
    gate.set()
    assert await both == [None, None]
    assert [name for name, _ in order] == ["first", "second"]
    assert {thread for _, thread in order} != {threading.current_thread()}


async def test_a_failure_is_told_and_ends_nothing():
    saver = Saver()

    def fails():
        raise OSError(28, "No space left on device")

    error = await done(saver, fails)
    assert isinstance(error, OSError)
    assert error.errno == 28
    assert await done(saver, lambda: None) is None


def _told_nobody(saver):
    async def leave():
        loop = asyncio.get_running_loop()
        gate = threading.Event()
        saver.do(lambda: gate.wait(5) and None, lambda _: loop.call_soon_threadsafe(print))
        return gate

    asyncio.run(leave()).set()


async def test_a_loop_that_is_closed_by_then_ends_nothing():
    saver = Saver()
    await asyncio.to_thread(_told_nobody, saver)
    assert await done(saver, lambda: None) is None


class _SlowDisk:
    """A disk that hangs until somebody mends it."""

    def __init__(self):
        self.begun, self.mended, self.saved = threading.Event(), threading.Event(), False

    def save(self, memory):
        del memory
        self.begun.set()
        self.mended.wait(5)
        self.saved = True


class _Quiet:
    """A core that has one thing to remember, and nothing else to say."""

    def handle(self, now, event):
        del now
        return [Remember(Memory())] if event is None else []


async def test_a_driver_that_is_closed_has_written_everything():
    disk = _SlowDisk()
    clock = SimpleNamespace(now_s=lambda: 0.0)
    ports = Ports(None, (), None, disk, clock)
    program = SimpleNamespace(hooks=None)
    driver = Driver(_Quiet(), ports, program, None, lambda _: None)
    driver.feed(None)
    assert await asyncio.to_thread(disk.begun.wait, 5)
    closing = asyncio.create_task(driver.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    disk.mended.set()
    await asyncio.wait_for(closing, 5)
    assert disk.saved
