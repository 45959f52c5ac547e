"""A run of a few minutes: CHAOS_SECONDS (300), CHAOS_SEED (drawn), CHAOS_KEEP (a directory)."""

import faulthandler
import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.report import gaps, show
from tests.chaos.run import Run

_SECONDS = float(os.environ.get("CHAOS_SECONDS", "300"))
_ENDS_WITHIN_S = 180.0


@pytest.mark.asyncio
async def test_upgrades_go_on_through_every_fault_and_nothing_is_lost(tmp_path):
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    directory = Path(os.environ.get("CHAOS_KEEP", tmp_path))
    # It lasts longer than any other test may.
    faulthandler.dump_traceback_later(_SECONDS + _ENDS_WITHIN_S, exit=True)
    print(f"seed {seed}, in {directory}")
    verdict = await Run(directory, seed).go(_SECONDS)
    show(verdict)
    assert verdict.violations == []
    assert verdict.values_lost == 0
    assert gaps(verdict, _SECONDS) == []
