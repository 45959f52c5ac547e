"""A conversion while clients write and whoever is master is killed: nothing lost, nothing stale.

A million records, for as long as it takes: `python -m tests.data.under_load`.
"""

import pytest

from tests.data.under_load import Load, Size


@pytest.mark.asyncio
async def test_masters_are_killed_while_clients_write_and_records_are_converted(server, tmp_path):
    size = Size(records=3000, kill_every_s=1.5, lock_ttl_s=0.6, pace="adaptive", clients=2)
    outcome = await Load(tmp_path, server.url, "load", size).run()
    assert outcome.problems == []
    assert outcome.kills > 0
    assert outcome.written > 100
    assert outcome.formats == outcome.counted == {"2.0": size.records}
