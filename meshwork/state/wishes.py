"""What operators asked of models while the mesh runs: add, load, unload, remove.

Each model has one wish, the last one; replicas take wishes up as they see them (`meshwork.follow`).
A removed model's wish stays as `removed`, so that a wish that is gone means that Redis forgot, and
whoever knows it still writes it down again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from redis.asyncio import Redis

from meshwork.model_config import ModelConfig
from meshwork.state.changes import changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What should become of one model."""

    service: str
    name: str
    version: str = ""  # as it was given; "" for the card's
    state: Literal["loaded", "unloaded", "removed"]
    model: str = ""  # `name@version` as replicas have it; "" for one that is yet to be added
    config: ModelConfig | None = None  # of one that was added while the mesh ran
    order: Annotated[int, Field(ge=0)] = 0  # another number is another wish

    @property
    def key(self) -> str:
        """The model, unique in the mesh."""
        return f"{self.service}/{self.name}@{self.version}"


_ADAPTER = TypeAdapter(Wish)


class Wishes:
    """Reads and writes the wishes."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def make(self, wish: Wish) -> None:
        """Writes a wish, with an order of its own."""
        order = int(await self._redis.incr(self._keys.wish_order))
        made = _ADAPTER.dump_python(wish, mode="json") | {"order": order}
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hset(self._keys.wishes, wish.key, _ADAPTER.dump_json(_ADAPTER.validate_python(made)))
            batch.publish(self._keys.wish_changes, wish.key)
            await batch.execute()

    async def restore(self, wish: Wish) -> None:
        """Writes a wish that Redis forgot, unless there is a newer one."""
        await self._redis.hsetnx(self._keys.wishes, wish.key, _ADAPTER.dump_json(wish))

    async def all(self) -> dict[str, Wish]:
        """The wishes, by key; what is no wish is left out."""
        found = {}
        for key, text in (await self._redis.hgetall(self._keys.wishes)).items():
            try:
                found[str(key)] = _ADAPTER.validate_json(text)
            except ValidationError as error:
                log.warning("%s in Redis is no wish: %s", key, error)
        return found

    async def watch(self, *, resync_s: float = 5.0) -> AsyncGenerator[Mapping[str, Wish], None]:
        """Yields the wishes as they are, and again each time that they changed, for ever."""
        last: dict[str, Wish] | None = None
        async with contextlib.aclosing(
            changes(self._redis, self._keys.wish_changes, resync_s=resync_s)
        ) as reasons:
            async for _ in reasons:
                try:
                    now = await self.all()
                except REDIS_AWAY as error:
                    log.warning("wishes can't be read: %s", error)
                    continue
                if now != last:
                    last = now
                    yield now
