"""The routers of the mesh: registers this one, knows the others, and how fresh what all know is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping

from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.routers import RENEW_S, Routers, RoutersView
from services.router.chronicle import Chronicle
from services.router.standing import Standing

log = logging.getLogger(__name__)

REPLY_S = 1.5  # a Redis that takes longer is one that can't be read
LEAVE_S = 0.5


class Peers:
    """Registers a router each second.

    Args:
        describe: gives what the router says of itself.
        unreachable: gives the replicas that its gateway can't reach.
        kept: gives the replicas that are known of before and not from Redis now.

    Attributes:
        view: the routers as they were last read.
        standing: whether what is known comes from Redis now.
    """

    def __init__(
        self,
        routers: Routers,
        describe: Callable[[], router_pb2.Router],
        unreachable: Callable[[], Mapping[str, router_pb2.Ejection]],
        kept: Callable[[], Collection[str]],
        chronicle: Chronicle,
    ) -> None:
        self._routers = routers
        self._describe = describe
        self._unreachable = unreachable
        self._kept = kept
        self._chronicle = chronicle
        self._known = False
        self.view = RoutersView()
        self.standing = Standing(time.time())

    def there(self) -> list[router_pb2.Router]:
        """The routers that are there, by name; only this one while nothing else is known."""
        own = self._describe()
        if self.standing.stale and not self.view.routers:
            return [own]
        others = {name: router for name, router in self.view.routers.items() if name != own.name}
        return [router for _, router in sorted({**others, own.name: own}.items())]

    def seen(self) -> dict[str, router_pb2.Ejection]:
        """By replica, what a gateway says that can't reach it."""
        by_gateway = sorted(self.view.unreachable.items(), reverse=True)
        return {name: each for _, found in by_gateway for name, each in found.items()}

    async def run(self) -> None:
        """Registers until cancelled, and then leaves."""
        name = self._describe().name
        try:
            while True:
                await self._renew()
                await asyncio.sleep(RENEW_S)
        finally:
            with contextlib.suppress(*REDIS_AWAY):
                async with asyncio.timeout(LEAVE_S):
                    await self._routers.leave(name)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(REPLY_S):
                view = await self._routers.renew(self._describe(), self._unreachable())
        except REDIS_AWAY as error:
            # A TimeoutError has no words of its own.
            why = str(error).rstrip(".") or f"no answer within {REPLY_S:g} s"
            happened = self.standing.failed(why, time.time())
            self.view = RoutersView()
        else:
            happened = self.standing.heard(view.epoch, self._kept(), time.time())
            if self._known and self.view.routers:
                self._chronicle.routers(self.view, view)
            self.view, self._known = view, True
        for level, message in happened:
            self._chronicle.state(level, message)
