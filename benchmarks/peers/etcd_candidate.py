"""One candidate of an election by a lease of etcd, as its users write it with aetcd.

    python -m benchmarks.peers.etcd_candidate PORT KEY TTL_S NAME

Says `leader MOMENT` once it leads, and keeps its lease until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aetcd


async def main(port: int, key: bytes, ttl_s: int, name: bytes) -> None:
    async with aetcd.Client(port=port, timeout=10) as client:
        lease = await client.lease(ttl_s)
        keeping = asyncio.create_task(_keep(lease, ttl_s))
        watch = await client.watch(key, kind=aetcd.rtypes.EventKind.DELETE)
        print("ready", flush=True)
        while not await _takes(client, key, name, lease):
            async for _ in watch:
                break
        print(f"leader {time.monotonic()}", flush=True)
        await keeping


async def _keep(lease: aetcd.rtypes.Lease, ttl_s: int) -> None:
    while True:
        await asyncio.sleep(ttl_s / 3)
        await lease.refresh()


async def _takes(client: aetcd.Client, key: bytes, name: bytes, lease: aetcd.rtypes.Lease) -> bool:
    transactions = client.transactions
    took, _ = await client.transaction(
        compare=[transactions.create(key) == 0],
        success=[transactions.put(key, name, lease)],
        failure=[],
    )
    return bool(took)


if __name__ == "__main__":
    asyncio.run(
        main(int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), sys.argv[4].encode())
    )
