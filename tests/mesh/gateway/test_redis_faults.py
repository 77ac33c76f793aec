"""Redis dies, hangs, is slow or forgets, under load: callers do not notice, and nobody is taken for dead."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from tests.mesh.gateway.conftest import Mesh, until
from tests.mesh.gateway.slow_proxy import SlowProxy

LEASE_S = 6.0  # after which a lease that is not renewed lapses
CALL = nlp_pb2.EmbedRequest(texts=["a"])


class Calls:
    """A steady load; the time of the last answer by replica, and what failed."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.errors: list[str] = []
        self.count = 0
        self._last: dict[str, float] = {}
        self._stub = nlp_pb2_grpc.NlpServiceStub(channel)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            try:
                name = self._stub.Embed(CALL, timeout=20).served_by.replica
                self._last[name] = time.monotonic()
                self.count += 1
            except grpc.RpcError as error:
                self.errors.append(f"{error.code()} {error.details()}")

    def reach(self, *names: str) -> bool:
        """Whether each of these replicas answered just now."""
        return all(time.monotonic() - self._last.get(name, 0) < 1 for name in names)

    def __enter__(self) -> Calls:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Faulty(Mesh):
    """A mesh whose Redis can be harmed."""

    def redis_dies(self) -> None:
        self.redis_port = self.valkey.port
        self.valkey.terminate()

    def redis_returns_empty(self) -> None:
        self.valkey._desired_port = self.redis_port
        self.valkey.start()

    def leases(self) -> set[str]:
        with self.valkey.client(decode_responses=True) as client:
            names = set(client.hkeys("meshwork:{default}:leases"))
        return {name for name in names if not name.startswith(":")}  # beside the mark of the epoch

    def removed(self) -> list[str]:
        """The replicas that the router took out, one after the other."""
        lines = self.log("router").splitlines()
        return [line.partition("removed ")[2].split()[0] for line in lines if "removed nlp" in line]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Faulty, SlowProxy]]:
    mesh = Faulty(tmp_path_factory.mktemp("faulty"))
    try:
        with SlowProxy(mesh.valkey.port) as proxy:
            url = mesh.environment["MESHWORK_REDIS_URL"]
            mesh.environment["MESHWORK_REDIS_URL"] = url.replace(f":{mesh.valkey.port}", f":{proxy.port}")
            # First: a server that wakes then hears of lapsed leases before it hears of renewed ones.
            mesh.start_router()
            for name in ("nlp-1", "nlp-2"):
                mesh.start_replica(name, "minilm@1")
            yield mesh, proxy
    finally:
        mesh.stop()


@pytest.fixture
def mesh(running: tuple[Faulty, SlowProxy]) -> Faulty:
    return running[0]


@pytest.fixture
def calls(mesh: Faulty) -> Iterator[Calls]:
    with mesh.channel() as channel, Calls(channel) as load:
        until(lambda: load.reach("nlp-1", "nlp-2"), "calls are answered")
        load.errors.clear()  # the router may know of a replica a moment before the gateway does
        yield load
    assert load.errors == []


def test_a_redis_that_forgets_all_costs_no_call_and_no_replica(mesh: Faulty, calls: Calls) -> None:
    with mesh.valkey.client() as client:
        client.flushall()
    until(lambda: mesh.leases() == {"nlp-1", "nlp-2"}, "leases come back by themselves")
    assert calls.reach("nlp-1", "nlp-2")
    assert mesh.removed() == []


def test_a_redis_that_hangs_for_longer_than_leases_hold_costs_no_call_and_no_replica(
    mesh: Faulty, calls: Calls
) -> None:
    with mesh.valkey.client() as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    hung = time.monotonic()
    until(lambda: time.monotonic() > hung + LEASE_S + 1.5, "leases would have lapsed")
    assert calls.reach("nlp-1", "nlp-2")
    os.kill(pid, signal.SIGCONT)
    until(lambda: mesh.leases() == {"nlp-1", "nlp-2"}, "leases are kept")
    woke = time.monotonic()
    until(lambda: time.monotonic() > woke + 1.5, "the router has read them")
    assert calls.reach("nlp-1", "nlp-2")
    assert mesh.removed() == []


def test_a_replica_joins_while_each_answer_of_redis_takes_300_ms(
    running: tuple[Faulty, SlowProxy], calls: Calls
) -> None:
    mesh, proxy = running
    proxy.delay_s = 0.3
    mesh.start_replica("nlp-3", "minilm@1")
    until(lambda: calls.reach("nlp-1", "nlp-2", "nlp-3"), "the new one answers, as the others do")
    proxy.delay_s = 0
    assert mesh.removed() == []


def test_while_redis_is_gone_the_dead_leave_and_afterwards_the_new_join(mesh: Faulty, calls: Calls) -> None:
    mesh.redis_dies()
    gone = time.monotonic()
    mesh.kill("nlp-3")
    until(lambda: not calls.reach("nlp-3"), "the dead one gets no calls")
    mesh.start_replica("nlp-4", "minilm@1")
    until(lambda: time.monotonic() > gone + LEASE_S + 1, "leases would have lapsed")
    assert calls.reach("nlp-1", "nlp-2")
    mesh.redis_returns_empty()
    until(lambda: calls.reach("nlp-1", "nlp-2", "nlp-4"), "the new one joins")
    until(lambda: mesh.removed() != [], "the dead one is given up")
    assert mesh.removed() == ["nlp-3"]
    assert mesh.leases() == {"nlp-1", "nlp-2", "nlp-4"}


def test_a_router_that_starts_without_redis_serves_an_envoy_that_knows_nothing(mesh: Faulty) -> None:
    mesh.redis_dies()
    envoy = mesh.envoy()
    mesh.kill("router")
    envoy.kill()
    envoy.wait(10)
    mesh.start_router()
    with mesh.channel() as channel:
        stub = nlp_pb2_grpc.NlpServiceStub(channel)

        def answers(**options: Any) -> bool:
            try:
                return bool(stub.Embed(CALL, timeout=5, **options).served_by.replica)
            except grpc.RpcError:
                return False

        until(answers, "calls are answered by what the last router knew")
        mesh.redis_returns_empty()
        with Calls(channel) as load:
            until(lambda: mesh.leases() == {"nlp-1", "nlp-2", "nlp-4"}, "leases come back by themselves")
            until(lambda: load.reach("nlp-1", "nlp-2", "nlp-4"), "all answer")
        assert load.errors == []
