"""Every guard of the protocol has a directed test that notices when it is gone."""

import pytest

from tests.sim.mutants import MUTANTS, killed_by


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_directed_test_notices_the_mutant(mutant):
    assert killed_by(mutant.rule, "tests"), f"{mutant.rule}: {mutant.what}"
