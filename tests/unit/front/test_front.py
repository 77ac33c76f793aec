"""The server of `meshwork.front` and grpc.aio's own, held to the same claims."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from meshwork.front import Front, make_server
from meshwork.front.server import Server

LIMIT = 100_000  # bytes of a message
Context = grpc.aio.ServicerContext[bytes, bytes]


class Handlers:
    """Raw bytes in and out; tells the tests what happens to its calls."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.told: list[Any] = []

    async def echo(self, raw: bytes, context: Context) -> bytes:
        await asyncio.sleep(0)
        context.set_trailing_metadata((("text", "behind"), ("raw-bin", b"\x00\xff")))
        return raw

    async def wait(self, raw: bytes, context: Context) -> bytes:
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"waited"

    async def tell(self, raw: bytes, context: Context) -> bytes:
        context.add_done_callback(self.told.append)
        metadata = context.invocation_metadata() or ()
        await context.send_initial_metadata((("first", "word"),))
        return repr((context.time_remaining(), context.peer(), dict(metadata).get("key"))).encode()

    async def refuse(self, raw: bytes, context: Context) -> bytes:
        context.set_trailing_metadata((("kept", "yes"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here")

    async def judge(self, raw: bytes, context: Context) -> bytes:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("set, not raised")
        return b"unseen"

    async def fail(self, raw: bytes, context: Context) -> bytes:
        raise RuntimeError("the password is 1234")

    async def count(self, raw: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            for number in range(int(raw)):
                yield b"%d" % number
        finally:
            self.cancelled.set()

    async def write(self, raw: bytes, context: Context) -> None:
        await context.write(b"one")
        await context.write(b"two")

    async def add(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        return b"%d" % sum([int(raw) async for raw in requests])

    async def both(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for raw in requests:
            yield raw


@pytest.fixture(params=["core", "aio"])
def front(request: pytest.FixtureRequest) -> Front:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def server(front: Front, handlers: Handlers) -> AsyncIterator[grpc.aio.Server]:
    server = make_server([("grpc.max_receive_message_length", LIMIT)], front=front)
    assert isinstance(server, Server) == (front == "core")
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: unary(getattr(handlers, name)) for name in ("echo", "wait", "tell", "refuse", "judge", "fail")
    }
    methods |= {
        "count": stream(handlers.count),  # type: ignore[arg-type]
        "write": stream(handlers.write),  # type: ignore[arg-type]
        "add": grpc.stream_unary_rpc_method_handler(handlers.add),  # type: ignore[arg-type]
        "both": grpc.stream_stream_rpc_method_handler(handlers.both),  # type: ignore[arg-type]
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    yield server
    await server.stop(None)


@pytest.fixture
async def channel(server: grpc.aio.Server) -> AsyncIterator[grpc.aio.Channel]:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


def unary(channel: grpc.aio.Channel, method: str) -> Any:
    return channel.unary_unary(f"/t.T/{method}")


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), failure.value.details() or ""


async def test_an_answer_comes_with_its_trailer(channel: grpc.aio.Channel) -> None:
    call = unary(channel, "echo")(b"hello")
    assert await call == b"hello"
    trailer = dict(await call.trailing_metadata())
    assert (trailer["text"], trailer["raw-bin"]) == ("behind", b"\x00\xff")
    assert await unary(channel, "echo")(b"") == b""


async def test_of_thousands_of_calls_each_gets_its_own_answer(channel: grpc.aio.Channel) -> None:
    draw = random.Random(7)
    echo, room = unary(channel, "echo"), asyncio.Semaphore(64)

    async def one(number: int) -> bool:
        raw = b"%d " % number * draw.randrange(1, 2000)
        async with room:
            call = echo(raw)
            if draw.random() < 0.1:
                await asyncio.sleep(0)
                call.cancel()
            try:
                return bool(await call == raw)
            except asyncio.CancelledError:
                return True

    assert all(await asyncio.gather(*(one(number) for number in range(3000))))


async def test_a_handler_learns_who_calls_and_how_long_it_has(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    call = unary(channel, "tell")(b"", metadata=(("key", "value"),), timeout=50)
    remaining, peer, value = eval(await call)
    assert 0 < remaining < 52
    assert peer.startswith("ipv4:127.0.0.1:")
    assert value == "value"
    assert dict(await call.initial_metadata())["first"] == "word"
    assert eval(await unary(channel, "tell")(b""))[0] is None
    while len(handlers.told) < 2:
        await asyncio.sleep(0.01)


async def test_an_abort_sends_its_status(channel: grpc.aio.Channel) -> None:
    call = unary(channel, "refuse")(b"")
    assert await status(call) == (grpc.StatusCode.NOT_FOUND, "not here")
    assert dict(await call.trailing_metadata())["kept"] == "yes"


async def test_a_code_that_is_set_drops_the_answer(channel: grpc.aio.Channel) -> None:
    assert await status(unary(channel, "judge")(b"")) == (grpc.StatusCode.DATA_LOSS, "set, not raised")


async def test_a_defect_is_unknown_to_the_caller_and_known_to_the_log(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture, front: Front
) -> None:
    code, details = await status(unary(channel, "fail")(b""))
    assert code is grpc.StatusCode.UNKNOWN
    assert "1234" in caplog.text
    if front == "core":
        assert "1234" not in details


async def test_a_method_that_is_not_there_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for method in ("nothing", "weird \N{SNOWMAN}".encode().decode("latin-1").replace(" ", "")):
        assert (await status(unary(channel, method)(b"")))[0] is grpc.StatusCode.UNIMPLEMENTED
    silent: Any = channel.stream_stream("/t.T/nothing")
    assert (await status(silent().read()))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_above_the_limit_is_refused(channel: grpc.aio.Channel) -> None:
    code, details = await status(unary(channel, "echo")(bytes(LIMIT + 1)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(LIMIT) in details
    assert await unary(channel, "echo")(b"still here") == b"still here"


async def test_streams_flow_in_every_direction(channel: grpc.aio.Channel) -> None:
    assert [raw async for raw in channel.unary_stream("/t.T/count")(b"3")] == [b"0", b"1", b"2"]
    assert [raw async for raw in channel.unary_stream("/t.T/count")(b"0")] == []
    assert [raw async for raw in channel.unary_stream("/t.T/write")(b"")] == [b"one", b"two"]
    assert await channel.stream_unary("/t.T/add")(iter([b"1", b"2"])) == b"3"
    assert await channel.stream_unary("/t.T/add")(iter([])) == b"0"
    call: Any = channel.stream_stream("/t.T/both")()
    for raw in (b"a", b"b"):
        await call.write(raw)
        assert await call.read() == raw
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_caller_that_leaves_closes_the_stream_that_answers_it(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    call: Any = channel.unary_stream("/t.T/count")(b"1000000000")
    assert await call.read() == b"0"
    call.cancel()
    async with asyncio.timeout(10):
        await handlers.cancelled.wait()


@pytest.mark.parametrize("way", ["cancel", "deadline"])
async def test_a_caller_that_leaves_cancels_the_handler(
    channel: grpc.aio.Channel, handlers: Handlers, way: str
) -> None:
    call = unary(channel, "wait")(b"", timeout=0.2 if way == "deadline" else None)
    await handlers.began.wait()
    if way == "cancel":
        call.cancel()
    async with asyncio.timeout(10):
        await handlers.cancelled.wait()
    expected = grpc.StatusCode.CANCELLED if way == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
    assert await call.code() is expected


async def test_stopping_waits_for_calls_in_flight_and_takes_no_more(
    server: grpc.aio.Server, channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    call = unary(channel, "wait")(b"")
    await handlers.began.wait()
    stopping = asyncio.create_task(server.stop(20))
    while (await asyncio.wait([asyncio.ensure_future(unary(channel, "echo")(b""))]))[
        0
    ].pop().exception() is None:
        await asyncio.sleep(0.01)
    assert not stopping.done()
    handlers.gate.set()
    assert await call == b"waited"
    await stopping
    assert await server.wait_for_termination(1) is False


async def test_stopping_cancels_what_outlasts_the_grace(
    server: grpc.aio.Server, channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    call = unary(channel, "wait")(b"")
    await handlers.began.wait()
    assert await server.wait_for_termination(0.01) is True
    await asyncio.gather(server.stop(20), server.stop(0.05))
    await handlers.cancelled.wait()
    assert await call.code() is not grpc.StatusCode.OK


async def test_a_port_that_is_taken_is_an_error(server: grpc.aio.Server, front: Front) -> None:
    alone = [("grpc.so_reuseport", 0)]
    first, second = make_server(alone, front=front), make_server(alone, front=front)
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.add_insecure_port(f"127.0.0.1:{port}")


async def test_health_and_reflection_are_served_as_by_grpc_aio(server: grpc.aio.Server) -> None:
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await checks.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
        mirror: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = [each async for each in mirror.ServerReflectionInfo(iter([asked]))]
        names = [service.name for service in answer.list_services_response.service]
        assert names == sorted([health.SERVICE_NAME, reflection.SERVICE_NAME])
        watch.cancel()


async def test_bytes_that_are_no_message_are_an_invalid_argument_to_foreign_servicers_too() -> None:
    server = make_server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    reflection.enable_server_reflection((health.SERVICE_NAME,), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in (
            channel.unary_unary(f"/{health.SERVICE_NAME}/Check")(b"\xff"),
            channel.unary_stream(f"/{health.SERVICE_NAME}/Watch")(b"\xff").read(),
            channel.stream_stream(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo")(iter([b"\xff"])).read(),
        ):
            assert (await status(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    await server.stop(None)


async def test_two_reads_at_once_are_an_error_not_a_hang() -> None:
    caught: list[BaseException | bytes] = []

    async def both(requests: Any, context: Context) -> bytes:
        caught.extend(await asyncio.gather(context.read(), context.read(), return_exceptions=True))
        return b""

    server = make_server()
    handler: Any = grpc.stream_unary_rpc_method_handler(both)  # type: ignore[arg-type]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"both": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.stream_unary("/t.T/both")(iter([b"one"])) == b""
    await server.stop(None)
    assert caught[0] == b"one"
    assert isinstance(caught[1], grpc.aio.UsageError)


async def test_grpc_aio_serves_where_this_grpcio_is_not_as_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "meshwork.front.server", None)
    server = make_server()
    assert not isinstance(server, Server)
    assert "serving by grpc.aio" in caplog.text
