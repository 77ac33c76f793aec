"""The load generator and the comparison: wrong answers are seen, all CPU is counted, turns are taken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.peers import processes, protobuf
from benchmarks.peers.compare import beside, best, compare
from benchmarks.peers.contender import Contender, Result
from benchmarks.peers.grpc_wires import OpenInference, Ray
from benchmarks.peers.http_wires import Mosec
from benchmarks.peers.loadgen import load
from benchmarks.peers.requests import Requests
from benchmarks.peers.wire import Wire
from meshwork.protobuf import nested


def vectors(count: int = 7) -> Requests:
    inputs = np.random.default_rng(0).standard_normal((count, 64)).astype(np.float32)
    return Requests("vector", tuple(inputs), inputs[:, :8])


def first_eight(request: bytes) -> bytes:
    return request[: 8 * 4]


@asynccontextmanager
async def grpc_server(answer: Any) -> AsyncIterator[str]:
    async def predict(request: bytes, context: object) -> bytes:
        return BytesValue(value=answer(BytesValue.FromString(request).value)).SerializeToString()

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "peer.Infer", {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@asynccontextmanager
async def http_server(*, chunked: bool) -> AsyncIterator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = first_eight(await reader.readexactly(size))
            writer.write(b"HTTP/1.1 200 OK\r\n")
            if chunked:
                writer.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 20 + body[:20] + b"\r\n")
                await asyncio.sleep(0)
                writer.write(b"%x\r\n" % 12 + body[20:] + b"\r\n0\r\n\r\n")
            else:
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def until_it_leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connected(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(until_it_leaves, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield f"{host}:{port}"


async def measured(wire: Wire, in_flight: int = 3) -> Any:
    return await load(wire, vectors(), in_flight, windows=2, window_s=0.15, warm_s=0.05, tag="")


async def test_right_answers_over_grpc_are_counted_and_checked() -> None:
    async with grpc_server(first_eight) as address:
        found = await measured(Ray("vector", address))
    assert found.errors == 0
    assert found.checked > 0
    assert found.max_error == 0
    assert found.rps > 0
    assert found.p99_ms >= found.p50_ms > 0


async def test_a_wrong_answer_under_load_is_seen() -> None:
    async with grpc_server(lambda request: first_eight(request[4:])) as address:
        assert (await measured(Ray("vector", address))).max_error > 0.1


async def test_a_server_that_only_fails_is_no_measurement() -> None:
    def fail(request: bytes) -> bytes:
        raise ValueError("no")

    async with grpc_server(fail) as address:
        with pytest.raises(SystemExit, match="nothing was answered"):
            await measured(Ray("vector", address))


@pytest.mark.parametrize("chunked", [False, True])
async def test_answers_over_http_come_with_a_length_or_in_chunks(chunked: bool) -> None:
    async with http_server(chunked=chunked) as address:
        found = await measured(Mosec("vector", address))
    assert (found.errors, found.max_error) == (0, 0)
    assert found.checked > 0


def test_an_image_may_name_classes_in_any_order_of_equals_but_no_others() -> None:
    reference = np.array([[0.1, 0.4, 0.4, 0.06, 0.04]], np.float32)
    requests = Requests("image", (b"",), reference)
    assert requests.error(0, np.array([2, 1, 0.4, 0.4], np.float32)) == 0
    assert requests.error(0, np.array([1, 0, 0.4, 0.1], np.float32)) == pytest.approx(0.3)
    assert requests.error(0, np.array([1, 2, 0.4, 0.3], np.float32)) == pytest.approx(0.1)


def test_a_text_answer_of_another_shape_is_wrong() -> None:
    requests = Requests("text", ("",), np.array([[0.2, 0.8]], np.float32))
    assert requests.error(0, np.array([0.2], np.float32)) == np.inf


def test_protobuf_by_hand_is_protobuf() -> None:
    known = FieldDescriptorProto(name="x" * 300, number=70_000, type_name="y")
    assert dict(protobuf.fields(known.SerializeToString())) == {1: b"x" * 300, 6: b"y"}
    assert FieldDescriptorProto.FromString(nested(1, b"z" * 200)).name == "z" * 200
    assert OpenInference("vector", "").decode(nested(6, np.ones(8, np.float32).tobytes())).sum() == 8


BURN = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.1: pass\n"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN + 'time.sleep(60)'!r}])\n"


def test_helpers_count_and_end_with_the_server_even_if_they_left_it() -> None:
    tag = f"test-{time.monotonic_ns()}"
    first = subprocess.Popen([sys.executable, "-c", PARENT], env={processes.TAG: tag}, start_new_session=True)
    first.wait()  # its child has another parent now
    (helper,) = processes.tagged(tag)
    while processes.cpu_s([helper]) < 0.1:
        time.sleep(0.02)
    processes.end(tag, first.pid)
    assert processes.tagged(tag) == []


@dataclass
class Fake(Contender):
    name: str
    rates: list[float]
    took_turns: list[str]
    workload: str = "vector"
    wire: str = ""
    left: Iterator[float] = field(init=False)

    def __post_init__(self) -> None:
        self.left = iter(self.rates)

    @contextmanager
    def running(self, tag: str) -> Iterator[str]:
        yield ""

    def measure(self, in_flight: Sequence[int], *, windows: int, window_s: float, warm_s: float) -> Result:
        self.took_turns.append(self.name)
        rate = next(self.left, None)
        if rate is None:
            raise RuntimeError("it broke")
        names = ("p50_ms", "p99_ms", "server_cpu_us", "generator_cpu_us", "server_cores", "other_cores")
        figures = dict.fromkeys(names, 1.0) | {"rps": rate, "errors": 0, "checked": 1, "max_error": rate}
        return Result(ready_s=1.0, loads=dict.fromkeys(in_flight, figures))


def test_contenders_take_turns_and_medians_are_kept() -> None:
    turns: list[str] = []
    contenders = [Fake("a", [1, 9, 2], turns), Fake("b", [5, 4, 6], turns)]
    found = compare(contenders, [1], rounds=3, also={"c": lambda: {"rps": float(len(turns))}})
    assert turns == ["a", "b"] * 3
    assert found["a"]["1"]["rps"] == 2
    assert found["a"]["1"]["rounds_rps"] == [1, 9, 2]
    assert found["a"]["1"]["max_error"] == 9
    assert found["c"] == {"rps": 4.0, "rounds_rps": [2.0, 4.0, 6.0]}
    fastest = best(found, ["a", "b"], 1)
    assert fastest is not None
    assert fastest["rps"] == 5
    assert beside(found, ["b"], "a", 1) == {"rate": 0.4, "less_cpu": 1.0}


def test_one_who_breaks_is_told_and_left_out() -> None:
    turns: list[str] = []
    found = compare([Fake("a", [1], turns), Fake("b", [2, 2, 2], turns)], [1], rounds=3)
    assert found["a"] == {"failed": "it broke"}
    assert found["b"]["1"]["rps"] == 2
    assert turns == ["a", "b", "a", "b", "b"]
    assert best(found, ["a"], 1) is None
    assert beside(found, ["a"], "b", 1) == {}
