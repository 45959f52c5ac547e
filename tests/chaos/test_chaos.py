"""A run of a few minutes: CHAOS_SECONDS (300), CHAOS_SEED (drawn), CHAOS_KEEP (a directory)."""

import faulthandler
import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.plan import FAULTS
from tests.chaos.report import show, summary
from tests.chaos.run import Run

_SECONDS = float(os.environ.get("CHAOS_SECONDS", "300"))
# Few enough for a slow machine; a run of five minutes on two cores completes some forty.
_SECONDS_OF_AN_UPGRADE_AT_MOST = 30.0
_ENDS_WITHIN_S = 180.0
_ALL_KINDS_WITHIN_S = 120.0


@pytest.mark.asyncio
async def test_upgrades_go_on_through_every_fault_and_nothing_is_lost(tmp_path):
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    directory = Path(os.environ.get("CHAOS_KEEP", tmp_path))
    # It lasts longer than any other test may.
    faulthandler.dump_traceback_later(_SECONDS + _ENDS_WITHIN_S, exit=True)
    print(f"seed {seed}, in {directory}")
    verdict = await Run(directory, seed).go(_SECONDS)
    show(verdict)
    said = summary(verdict)
    assert verdict.violations == []
    assert verdict.values_lost == 0
    assert said["upgrades completed"] >= _SECONDS / _SECONDS_OF_AN_UPGRADE_AT_MOST
    assert said["values read"] > said["upgrades completed"]
    if _SECONDS >= _ALL_KINDS_WITHIN_S:
        assert said["upgrades rolled back"] > 0
        assert [name for name in FAULTS if not verdict.faults[name]] == []
