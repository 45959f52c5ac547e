"""What a program is asked, and what counts as an answer."""

import asyncio

import pytest

from peerupgrade.core.health import Probing
from peerupgrade.errors import ConfigError
from peerupgrade.runtime.health import Checks

pytestmark = pytest.mark.asyncio


def checks(*registered, timeout_s=5.0):
    made = Checks()
    for check in registered:
        made.register(check, Probing(timeout_s=timeout_s))
    return made


async def well():
    return True


async def broken():
    raise ValueError("no database")


def mute():
    raise RuntimeError


async def hangs():
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ([well, lambda: None], ""),
        ([lambda: True, broken], "no database"),
        ([mute], "RuntimeError"),
        ([well, lambda: False], "<lambda> says no"),
    ],
)
async def test_every_callback_must_be_content(asked, error):
    assert await checks(*asked).run() == error


async def test_what_does_not_answer_in_time_is_not_well():
    assert await checks(well, hangs, timeout_s=0.05).run() == "no answer within 0.05 s"


async def test_all_are_asked_alike():
    made = checks(well)
    with pytest.raises(ConfigError, match="asked alike"):
        made.register(broken, Probing(interval_s=1.0))
