"""A replica follows what operators ask of its models: the wishes in Redis, as far as they are its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from meshwork.errors import MeshworkError
from meshwork.serving.models import ModelTable
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.wishes import Wish, Wishes

log = logging.getLogger(__name__)


def new_wishes(known: Mapping[str, Wish], wished: Mapping[str, Wish], service: str) -> Iterator[Wish]:
    """The wishes for `service` that are not those that were known, oldest first."""
    for key, wish in sorted(wished.items(), key=lambda item: item[1].order):
        if wish.service == service and wish != known.get(key):
            yield wish


class Follower:
    """Takes the wishes for one service up, one after another."""

    def __init__(self, models: ModelTable, wishes: Wishes, service: str) -> None:
        self._models = models
        self._wishes = wishes
        self._service = service
        self._known: dict[str, Wish] = {}

    async def catch_up(self) -> None:
        """Takes up what was wished before this replica started, if Redis can be asked."""
        try:
            await self._take_up(await self._wishes.all())
        except REDIS_AWAY as error:
            log.warning("wishes for models can't be read, going on without: %s", error)

    async def run(self) -> None:
        """Follows until cancelled."""
        async with contextlib.aclosing(self._wishes.watch()) as views:
            async for view in views:
                await self._take_up(view)
                for forgotten in self._known.keys() - view.keys():
                    with contextlib.suppress(*REDIS_AWAY):
                        await self._wishes.restore(self._known[forgotten])

    async def _take_up(self, view: Mapping[str, Wish]) -> None:
        for wish in new_wishes(self._known, view, self._service):
            self._known[wish.key] = wish
            try:
                await self._apply(wish)
            except MeshworkError as error:
                log.warning("%s should be %s: %s", wish.key, wish.state, error)

    async def _apply(self, wish: Wish) -> None:
        if wish.state == "removed":
            await self._models.remove(wish.name, wish.model.partition("@")[2] or wish.version)
            return
        if wish.config is not None and not self._models.knows(wish.config):
            idle = wish.state == "unloaded"
            await self._models.add(replace(wish.config, load="demand") if idle else wish.config)
        elif wish.state == "loaded" and wish.model:
            await self._models.load(wish.model)
        elif wish.state == "unloaded" and wish.model:
            await self._models.unload(wish.model)
