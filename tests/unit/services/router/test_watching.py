"""A replica that reports failures is put out and an event says why: the leader's loops on a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis

from meshwork.router.v1 import router_pb2
from meshwork.state.ejections import Ejections
from meshwork.state.events import Events
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.reports import Figures, Report, Reports
from meshwork.state.traces import Part, Traces
from services.router.config import RouterConfig
from services.router.router import Router

KEYS = Keys(mesh="test")
NAMES = ("vision-1", "vision-2", "vision-3")


def lease(name: str) -> router_pb2.Replica:
    model = router_pb2.Model(
        name="digits", version="1", service="vision", state=router_pb2.MODEL_STATE_READY, methods=["Classify"]
    )
    return router_pb2.Replica(
        name=name,
        service="vision",
        address=f"127.0.0.1:{NAMES.index(name) + 2000}",
        state=router_pb2.REPLICA_STATE_READY,
        models=[model],
    )


async def replica(redis: Redis, name: str, failing: set[str]) -> None:
    """Holds a lease and reports 50 calls a window; twice a second, so that each reading finds a new one."""
    book, reports = LeaseBook(redis, KEYS), Reports(redis, KEYS)
    number = 0
    while True:
        number += 1
        figures = Figures()
        for _ in range(50):
            figures.answered(0.01, 0.0)
        if name in failing:
            figures.calls += 30
            figures.errors += 30
        await book.renew(lease(name), 6.0)
        await reports.put(name, Report(str(number), 5.0, {"digits@1": figures}))
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def running(*coroutines: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in coroutines]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_replica_that_fails_beside_its_peers_is_put_out_with_evidence_and_tried_again(
    redis: Redis, tmp_path: Path
) -> None:
    config = RouterConfig(mesh="test", run_dir=str(tmp_path), router="first")
    failing = {"vision-2"}
    trace = Part(
        instances=(),
        trace_id="a" * 32,
        spans=b"",
        start_us=4 * 10**15,
        end_us=4 * 10**15 + 1,
        name="Classify",
        root=True,
        failed=True,
        services=("vision",),
        count=1,
    )
    await Traces(redis, KEYS).add([trace])
    ejections, events = Ejections(redis, KEYS), Events(redis, KEYS)
    loops = [replica(redis, name, failing) for name in NAMES]
    async with asyncio.timeout(60), running(Router(config, redis).run(), *loops):
        while not (out := await ejections.all()):
            await asyncio.sleep(0.1)
        assert list(out) == ["vision-2"]
        assert out["vision-2"].reason == router_pb2.EJECTION_REASON_FAILING
        assert "of its calls of digits@1 fail" in out["vision-2"].detail
        (found,) = [each for each in await events.recent(100) if each.kind == router_pb2.EVENT_KIND_ANOMALY]
        assert (found.service, found.subject, list(found.trace_ids)) == ("vision", "vision-2", ["a" * 32])
        assert "of calls fail" in found.message
        failing.clear()
        while await ejections.all():
            await asyncio.sleep(0.1)
