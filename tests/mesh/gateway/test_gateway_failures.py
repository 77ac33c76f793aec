"""What callers notice when processes die and come back: nothing, or an error that says what is missing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest

from meshwork.drain import out_of_snapshots
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import connect
from meshwork.state.drains import Drains
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.orders import process_of

TIMEOUT_S = 30
REQUEST = nlp_pb2.EmbedRequest(texts=["a"])


class Load:
    """Calls in threads until told to stop; counts answers by replica, and keeps what failed."""

    def __init__(self, channel: grpc.Channel, workers: int = 8) -> None:
        self.answers: dict[str, int] = {}
        self.errors: list[str] = []
        self._stub = nlp_pb2_grpc.NlpServiceStub(channel)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(workers)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                name = self._stub.Embed(REQUEST, timeout=TIMEOUT_S).served_by.replica
                self.answers[name] = self.answers.get(name, 0) + 1
            except grpc.RpcError as error:
                self.errors.append(f"{error.code()} {error.details()}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def channel(mesh: Any) -> Iterator[grpc.Channel]:
    with mesh.channel() as opened:
        # The router may know of a replica a moment before the gateway does, and says so.
        wait(lambda: works(opened), "the first answer")
        yield opened


def call(channel: grpc.Channel, **options: Any) -> str:
    stub = nlp_pb2_grpc.NlpServiceStub(channel)
    return str(stub.Embed(REQUEST, timeout=TIMEOUT_S, **options).served_by.replica)


def works(channel: grpc.Channel) -> bool:
    with contextlib.suppress(grpc.RpcError):
        return bool(call(channel))
    return False


def wait(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_new_replica_gets_calls_and_one_that_is_killed_under_load_costs_none(
    mesh: Any, channel: grpc.Channel
) -> None:
    mesh.start_replica("nlp-2", "minilm@1", "other@2", "other@10")
    with Load(channel) as load:
        wait(lambda: load.answers.get("nlp-2", 0) > 50, "the new replica gets calls")
        mesh.kill("nlp-2")
        before = load.answers["nlp-1"]
        wait(lambda: load.answers["nlp-1"] > before + 500, "the other replica goes on")
    assert load.errors == []


def test_calls_go_on_while_the_router_is_down_and_the_next_router_adopts_envoy(
    mesh: Any, channel: grpc.Channel
) -> None:
    envoy = mesh.envoy().pid
    with Load(channel, workers=2) as load:
        mesh.kill("router")
        before = load.answers.get("nlp-1", 0)
        wait(lambda: load.answers.get("nlp-1", 0) > before + 50, "calls go on without a router")
        mesh.start_router()
    assert load.errors == []
    assert mesh.envoy().pid == envoy
    assert "adopted the Envoy" in mesh.log("router")
    mesh.start_replica("nlp-3", "minilm@1")
    with Load(channel, workers=2) as load:
        wait(lambda: load.answers.get("nlp-3", 0) > 0, "a replica that came later gets calls")
    mesh.kill("nlp-3")


def test_an_envoy_that_is_killed_comes_back(mesh: Any, channel: grpc.Channel) -> None:
    before = mesh.envoy()
    before.kill()
    psutil.wait_procs([before], timeout=10)
    wait(lambda: works(channel), "calls work again")
    assert mesh.envoy().pid != before.pid


def test_calls_go_on_while_redis_is_down_and_when_it_comes_back_empty(
    mesh: Any, channel: grpc.Channel
) -> None:
    with Load(channel, workers=2) as load:
        port = mesh.valkey.port
        mesh.valkey.terminate()
        before = load.answers.get("nlp-1", 0)
        wait(lambda: load.answers.get("nlp-1", 0) > before + 200, "calls go on without Redis")
        mesh.valkey._desired_port = port
        mesh.valkey.start()
        before = load.answers.get("nlp-1", 0)
        wait(lambda: load.answers.get("nlp-1", 0) > before + 500, "calls go on with an empty Redis")
    assert load.errors == []


async def test_a_draining_replica_is_told_once_no_snapshot_has_it(mesh: Any, channel: grpc.Channel) -> None:
    redis = connect(mesh.valkey.connection_url)
    book, drains = LeaseBook(redis, Keys()), Drains(redis, Keys())
    replica = router_pb2.Replica(name="nlp-9", service="nlp", address="127.0.0.1:9")
    replica.state = router_pb2.REPLICA_STATE_READY
    replica.models.add(name="other", version="99", state=router_pb2.MODEL_STATE_READY)
    await book.renew(replica, 60)
    assert await drains.missing(process_of(replica))
    replica.state = router_pb2.REPLICA_STATE_DRAINING
    await book.renew(replica, 60)
    async with asyncio.timeout(20):
        await out_of_snapshots(drains, process_of(replica), int, 20)
    assert not await drains.missing(process_of(replica))
    await book.revoke("nlp-9")
    await redis.aclose()


def test_the_last_replica_is_missed_by_name(mesh: Any, channel: grpc.Channel) -> None:
    mesh.kill("nlp-1")

    def says_so() -> bool:
        try:
            call(channel)
        except grpc.RpcError as error:
            named = "service nlp has no ready replica" in str(error.details())
            return named and error.code() is grpc.StatusCode.UNAVAILABLE
        return False

    wait(says_so, "the error names the service")
    mesh.start_replica("nlp-1", "minilm@1")
    wait(lambda: works(channel), "the new replica gets calls")


def test_a_router_that_is_told_to_stop_stops_its_envoy(mesh: Any) -> None:
    envoy = mesh.envoy()
    router = mesh.processes.pop("router")
    router.terminate()
    assert router.wait(timeout=20) == 0
    gone, _ = psutil.wait_procs([envoy], timeout=5)
    assert gone
