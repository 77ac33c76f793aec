"""`python -m benchmarks.discovery.router`: the product's router, which also writes down who took what when.

It plans for a gateway and starts none; for each change of leases that it was told of it prints a line
of JSON once every client has acknowledged it: the replicas, and the time on this machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from meshwork import logs
from meshwork.process import stop_on_signals, watch_parent
from meshwork.state.connect import connect
from meshwork.xds.snapshot import Snapshot
from services.router.config import RouterConfig
from services.router.incremental import Planner, Replicas
from services.router.router import Router


class WatchedRouter(Router):
    """Tells of each plan, once every client took it."""

    def watch(self) -> None:
        """Begins to tell."""
        self._tasks: set[asyncio.Task[None]] = set()
        planner, update = self._planner, Planner.update

        def watched(names: Iterable[str], replicas: Replicas, **known: Any) -> Snapshot:
            names = [*names]
            began = time.process_time()
            snapshot = update(planner, names, replicas, **known)
            spent_s = time.process_time() - began
            task = asyncio.create_task(self._tell(names, spent_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return snapshot

        planner.update = watched  # type: ignore[method-assign]

    async def _tell(self, names: list[str], plan_s: float) -> None:
        # It runs once the plan is in force.
        generation = self.cache.generation
        await self.cache.taken(generation)
        line = {"names": names, "taken": time.monotonic(), "generation": generation, "plan_s": plan_s}
        print(json.dumps(line), flush=True)


async def main() -> None:
    """Runs it as the environment says, until it is told to stop."""
    stop = stop_on_signals()
    config = RouterConfig.from_environment()
    router = WatchedRouter(config, connect(config.redis_url))
    router.watch()
    server = await router.serve()
    running = [asyncio.create_task(router.run()), asyncio.create_task(watch_parent(stop))]
    await stop.wait()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await server.stop(0.5)


if __name__ == "__main__":
    logs.start("router")
    asyncio.run(main())
