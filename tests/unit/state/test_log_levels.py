from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from meshwork.state.keys import Keys
from meshwork.state.log_levels import LogLevels

KEYS = Keys(mesh="test")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.level
    yield logger
    logger.setLevel(before)


async def until_at(root: logging.Logger, level: int) -> None:
    async with asyncio.timeout(20):
        while root.level != level:
            await asyncio.sleep(0.01)


async def test_a_process_takes_its_own_level_before_its_services_and_gets_its_first_back(
    redis: Redis, root: logging.Logger
) -> None:
    first = root.level
    levels = LogLevels(redis, KEYS)
    task = asyncio.create_task(levels.follow(["nlp-1", "nlp"]))
    try:
        await levels.set("nlp", "error")
        await until_at(root, logging.ERROR)
        await levels.set("nlp-1", "debug")
        await until_at(root, logging.DEBUG)
        await levels.set("nlp-1", "")
        await until_at(root, logging.ERROR)
        await levels.set("nlp", "")
        await until_at(root, first)
    finally:
        task.cancel()


async def test_a_level_that_nobody_knows_changes_nothing(redis: Redis, root: logging.Logger) -> None:
    levels = LogLevels(redis, KEYS)
    await levels.set("nlp", "shout")
    task = asyncio.create_task(levels.follow(["nlp"]))
    first = root.level
    await levels.set("vision", "debug")
    await asyncio.sleep(0.1)
    assert root.level == first
    task.cancel()
