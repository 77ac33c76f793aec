"""How a replica leaves without losing a call.

::

    SIGTERM, `meshwork drain`, end of the parent
      -> lease DRAINING, health NOT_SERVING: routers plan without it, gateways that check it avoid it
      -> every router says that its clients hold no snapshot with the replica, and no new call comes;
         or CONFIRM_S have passed
      -> no more calls (GOAWAY); those in flight finish, or end with UNAVAILABLE after `drain_s`
      -> the lease is given up

Until the routers' word it serves as ever. A router that died counts until it lapses, in which time its
clients find another. Where the word can't come (Redis is away), the time is what gateways need to see
by its health alone that it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Set

from meshwork.state.connect import REDIS_AWAY
from meshwork.state.drains import Drains

log = logging.getLogger(__name__)

CONFIRM_S = 3.5  # the longest to wait; a router that died lapses sooner, and a gateway has checked twice
QUIET_S = 0.2  # without a new call, before no more are taken
POLL_S = 0.05
CALLERS = "some caller"


async def out_of_snapshots(
    drains: Drains, process: str, begun: Callable[[], int], timeout_s: float = CONFIRM_S
) -> None:
    """Returns once no client's snapshot holds the draining `process`, or after `timeout_s` seconds.

    Args:
        begun: gives the number of calls that came so far. A call that comes as the server stops would
            be lost (C-core cancels it), so the wait goes on while any come.
    """
    clock = asyncio.get_running_loop().time
    waiting: Set[str] = {"Redis"}
    before, since = begun(), clock()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while waiting:
                try:
                    waiting = await drains.missing(process)
                except REDIS_AWAY:
                    waiting = {"Redis"}
                if begun() != before:
                    before, since = begun(), clock()
                if clock() - since < QUIET_S:
                    waiting = waiting or {CALLERS}
                if waiting:
                    await asyncio.sleep(POLL_S)
    if waiting:
        named = ", ".join(sorted(waiting))
        log.warning("%s did not let go of us within %g s, going on", named, timeout_s)
