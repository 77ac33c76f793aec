"""Whether this router leads: campaigns for the leader lock as long as it runs.

Loops of which there must be one run in every router and act only while `grant` is not empty. While
Redis is away nobody leads. When the leader dies another router has the lock after TTL_S + RENEW_S
(2.5 s) at most; one that stops in good order gives it up at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from meshwork.state.connect import REDIS_AWAY
from meshwork.state.leader import RENEW_S, TTL_S, LeaderLock, Term

log = logging.getLogger(__name__)

CAMPAIGN_S = 1.0  # the longest that a campaign may take
RESIGN_S = 0.5


class Leading:
    """Campaigns for the router `name`.

    Args:
        on_change: is told of the leader before, "" if none was known, and of another one that leads now.
    """

    def __init__(self, lock: LeaderLock, name: str, on_change: Callable[[str, str], None]) -> None:
        self._lock = lock
        self._name = name
        self._on_change = on_change
        self._term = Term()
        self._heard = float("-inf")
        self._told = ""

    @property
    def grant(self) -> str:
        """What a write of the leader carries; "" if this router does not lead."""
        return self._term.grant if self._term.leads(asyncio.get_running_loop().time()) else ""

    @property
    def leader(self) -> str:
        """The router that leads; "" if nobody is known to, now."""
        fresh = asyncio.get_running_loop().time() < self._heard + TTL_S
        return self._term.leader if fresh else ""

    def deposed(self, grant: str) -> None:
        """Redis refused what this router wrote as the leader by `grant`."""
        if grant != self._term.grant:
            return  # it leads again, by another one
        log.warning("another router leads, or none: what was to be written was refused")
        self._term.end()

    async def run(self) -> None:
        """Campaigns until cancelled, and then resigns."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                sent = loop.time()
                with contextlib.suppress(*REDIS_AWAY):  # TimeoutError is one of them
                    async with asyncio.timeout(CAMPAIGN_S):
                        mine, held = await self._lock.campaign(self._name)
                    self._heard = sent
                    self._term.take(mine, held, sent)
                    self._tell()
                await asyncio.sleep(max(0.0, sent + RENEW_S - loop.time()))
        finally:
            if self._term.grant:
                with contextlib.suppress(*REDIS_AWAY):
                    async with asyncio.timeout(RESIGN_S):
                        await self._lock.resign(self._term.grant)
            self._term.end()

    def _tell(self) -> None:
        before, self._told = self._told, self._term.leader
        if before != self._told:
            log.info("%s leads", "this router" if self.grant else self._told)
            self._on_change(before, self._told)
