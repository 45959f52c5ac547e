"""Every guard of the protocol has a directed test that notices when it is gone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sim.mutants import MUTANTS, killed_by

_AT_ONCE = 2  # each in a process of its own


@pytest.fixture(scope="module")
def verdicts(request):
    """Rule -> the future name of the test that notices, for the mutants that are asked for."""
    asked = [
        item.callspec.params["mutant"].rule
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    pool = ThreadPoolExecutor(_AT_ONCE)
    yield {rule: pool.submit(killed_by, rule, "tests") for rule in asked}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_directed_test_notices_the_mutant(mutant, verdicts):
    assert verdicts[mutant.rule].result(), f"{mutant.rule}: {mutant.what}"
