"""Replicas that drain under load cost no call, through two gateways with two routers, and proxyless."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import meshwork
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2
from tests.mesh.gateway.conftest import until
from tests.mesh.gateway.test_sdk_survival import Load, Pair
from tests.unit.serving.test_models import write_card

PIECES = 40


class Drained(Pair):
    """A pair whose routers know of each other, with real replicas of a tiny service."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        told = {
            "MESHWORK_ROUTERS": self.routers,
            "MESHWORK_GATEWAYS": self.gateways,
            "MESHWORK_MODELS": json.dumps([{"source": write_card(folder, "echo", "1", "[Embed, Generate]")}]),
        }
        self.environment |= told
        self.second.environment |= told

    def start_tiny(self, name: str) -> None:
        self.environment["MESHWORK_REPLICA"] = name
        self.start(name, "-m", "tests.unit.tiny_service")

    def admin(self) -> meshwork.Client:
        """A client of the second router."""
        return meshwork.connect(self.second.router_address, timeout_s=10)

    def ready(self, *names: str) -> None:
        def are() -> bool:
            with self.admin() as mesh:
                found = mesh.router.list_replicas(service="nlp")
            ready = {each.name for each in found if each.state == router_pb2.REPLICA_STATE_READY}
            return ready == set(names)

        until(are, f"{names} are ready")

    def ended(self, name: str) -> None:
        assert self.processes.pop(name).wait(timeout=30) == 0, self.log(name)


class Streams:
    """Streams in threads, one after another, through one gateway and without any retry."""

    def __init__(self, gateway: str, workers: int = 3) -> None:
        self.whole = 0
        self.broken: list[str] = []
        self._stop = threading.Event()
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._run) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with grpc.insecure_channel(self._gateway, options=[("grpc.enable_retries", 0)]) as channel:
            stub = nlp_pb2_grpc.NlpServiceStub(channel)
            while not self._stop.is_set():
                try:
                    asked = nlp_pb2.GenerateRequest(prompt="x", max_output_tokens=PIECES)
                    pieces = [piece.text for piece in stub.Generate(asked, timeout=30)]
                    assert len(pieces) == PIECES
                    self.whole += 1
                except grpc.RpcError as error:
                    self.broken.append(f"{error.code()} {error.details()}")

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drained]:
    running = Drained(tmp_path_factory.mktemp("drained"))
    try:
        for name in ("nlp-1", "nlp-2"):
            running.start_tiny(name)
        running.start_router()
        running.second.start_router()
        running.ready("nlp-1", "nlp-2")
        yield running
    finally:
        running.stop()


class Callers:
    """All kinds of load at once: unary through both gateways and proxyless, and streams."""

    def __init__(self, pair: Drained) -> None:
        self._loads = [Load(pair.gateways, workers=4), Load("xds:///", pair.routers, workers=4)]
        self._streams = Streams(pair.gateway)

    def see(self, *names: str) -> None:
        until(lambda: all(load.saw(name) for load in self._loads for name in names), f"{names} answer")

    def end(self) -> tuple[list[str], int]:
        """What was lost, and how many calls were answered."""
        self._streams.end()
        reports: list[dict[str, Any]] = [load.end() for load in self._loads]
        lost = [error for report in reports for error in report["errors"]] + self._streams.broken
        answered = sum(sum(report["answers"].values()) for report in reports)
        return lost, answered + self._streams.whole


def test_a_drain_by_order_and_one_by_signal_lose_no_call_nor_stream(pair: Drained) -> None:
    callers = Callers(pair)
    callers.see("nlp-1", "nlp-2")
    with pair.admin() as mesh:
        assert mesh.admin.drain_replica("nlp-1").service == "nlp"
    pair.ended("nlp-1")
    pair.start_tiny("nlp-3")
    callers.see("nlp-3")
    pair.processes["nlp-2"].send_signal(signal.SIGTERM)
    pair.ended("nlp-2")
    pair.start_tiny("nlp-2")
    pair.ready("nlp-2", "nlp-3")
    lost, answered = callers.end()
    assert lost == []
    assert answered > 500
    assert "going on" not in pair.log("nlp-1") + pair.log("nlp-2")


def test_a_drain_while_a_router_dies_loses_no_call_and_its_gateway_is_adopted(pair: Drained) -> None:
    envoy = pair.envoy().pid
    callers = Callers(pair)
    callers.see("nlp-2", "nlp-3")
    pair.kill("router")
    with pair.admin() as mesh:
        mesh.admin.drain_replica("nlp-3")
    pair.ended("nlp-3")
    pair.start_tiny("nlp-4")
    callers.see("nlp-4")  # both learn of it from the other router
    pair.start_router()
    lost, answered = callers.end()
    assert lost == []
    assert answered > 500
    assert pair.envoy().pid == envoy
    with meshwork.connect(pair.router_address) as one, pair.admin() as two:
        until(
            lambda: one.admin.get_discovery().version == two.admin.get_discovery().version,
            "both routers serve the same snapshot",
        )


def test_a_drain_without_redis_loses_no_call(pair: Drained) -> None:
    callers = Callers(pair)
    callers.see("nlp-2", "nlp-4")
    port = pair.valkey.port
    pair.valkey.terminate()
    pair.processes["nlp-4"].send_signal(signal.SIGTERM)
    pair.ended("nlp-4")
    lost, answered = callers.end()
    assert lost == []
    assert answered > 500
    assert "Redis did not let go" in pair.log("nlp-4")
    pair.valkey._desired_port = port
    pair.valkey.start()
