from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshwork.chaos.relay import Relay

HOST = "127.0.0.1"


@pytest.fixture
async def echoing() -> AsyncIterator[tuple[Relay, int]]:
    """A relay before a server that sends back what it gets, and the relay's port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, HOST, 0) as server:
        relay = Relay((HOST, server.sockets[0].getsockname()[1]))
        yield relay, await relay.start(HOST)
        await relay.stop()


async def test_what_is_sent_through_a_cut_line_arrives_once_it_is_mended(echoing: tuple[Relay, int]) -> None:
    relay, port = echoing
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    relay.cut()
    writer.write(b"two")
    arriving = asyncio.create_task(reader.readexactly(3))
    # A new connection is taken, so that the other side gets no reset, and brings nothing either.
    second_reader, second = await asyncio.open_connection(HOST, port)
    second.write(b"new")
    done, _ = await asyncio.wait([arriving], timeout=0.2)
    assert not done
    relay.mend()
    assert await arriving == b"two"
    assert await second_reader.readexactly(3) == b"new"
    for each in (writer, second):
        each.close()
        await each.wait_closed()


async def test_an_end_passes_a_line_that_is_not_cut(echoing: tuple[Relay, int]) -> None:
    _, port = echoing
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"last")
    writer.write_eof()
    assert await reader.read(-1) == b"last"
    writer.close()
    await writer.wait_closed()
