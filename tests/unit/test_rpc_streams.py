"""Methods whose caller streams, on a service made here: the contract itself has none yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue

from meshwork.errors import DETAILS_KEY, InvalidArgument, Overloaded, from_rpc_error
from meshwork.front import make_server
from meshwork.rpc import add_servicer

SERVICE = "meshwork.testing.v1.StreamService"
TEXT = ".google.protobuf.StringValue"
GARBAGE = b"\x0a\xff"


def describe() -> None:
    """Puts the service into the pool in which `add_servicer` looks."""
    file = descriptor_pb2.FileDescriptorProto(
        name="meshwork/testing/v1/stream.proto",
        package="meshwork.testing.v1",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    service = file.service.add(name="StreamService")
    service.method.add(name="Join", input_type=TEXT, output_type=TEXT, client_streaming=True)
    service.method.add(
        name="Echo", input_type=TEXT, output_type=TEXT, client_streaming=True, server_streaming=True
    )
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


class Streams:
    """Joins and echoes texts; refuses one that says `full`."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def Join(self, requests: AsyncIterator[StringValue], context: object) -> StringValue:
        return StringValue(value=" ".join([request.value async for request in requests]))

    async def Echo(self, requests: AsyncIterator[StringValue], context: object) -> AsyncIterator[StringValue]:
        try:
            async for request in requests:
                if request.value == "full":
                    raise Overloaded("come back", retry_after_s=1)
                yield request
        finally:
            self.left.set()


@pytest.fixture(scope="module")
async def servicer() -> Streams:
    describe()
    return Streams()


@pytest.fixture(scope="module")
async def channel(servicer: Streams) -> AsyncIterator[grpc.aio.Channel]:
    server = make_server()
    add_servicer(server, SERVICE, servicer)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def echo(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, StringValue]:
    call: Any = channel.stream_stream(f"/{SERVICE}/Echo", response_deserializer=StringValue.FromString)
    return call()  # type: ignore[no-any-return]


def text(value: str) -> bytes:
    return StringValue(value=value).SerializeToString()


async def test_a_stream_of_requests_gets_one_answer(channel: grpc.aio.Channel) -> None:
    join = channel.stream_unary(f"/{SERVICE}/Join", response_deserializer=StringValue.FromString)
    answer: StringValue = await join(iter([text("one"), text("answer")]))
    assert answer.value == "one answer"


async def test_both_ways_each_answer_comes_before_the_next_request(channel: grpc.aio.Channel) -> None:
    call = echo(channel)
    for value in ("a", "b", "c"):
        await call.write(text(value))
        assert await call.read() == StringValue(value=value)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("said", ["", "before "])
async def test_bytes_that_are_no_message_end_the_stream_with_an_invalid_argument(
    channel: grpc.aio.Channel, said: str
) -> None:
    call = echo(channel)
    if said:
        await call.write(text(said))
        assert await call.read() == StringValue(value=said)
    await call.write(GARBAGE)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    error = from_rpc_error(failure.value)
    assert isinstance(error, InvalidArgument)
    assert error.reason == "MALFORMED_MESSAGE"


async def test_an_error_of_the_servicer_ends_the_stream_with_its_facts(channel: grpc.aio.Channel) -> None:
    call = echo(channel)
    await call.write(text("full"))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    assert DETAILS_KEY in dict(failure.value.trailing_metadata() or ())
    assert from_rpc_error(failure.value).retry_after_s == 1


async def test_a_caller_that_leaves_ends_the_servicers_stream(
    channel: grpc.aio.Channel, servicer: Streams
) -> None:
    servicer.left.clear()
    call = echo(channel)
    await call.write(text("here"))
    await call.read()
    assert not servicer.left.is_set()
    call.cancel()
    async with asyncio.timeout(10):
        await servicer.left.wait()
