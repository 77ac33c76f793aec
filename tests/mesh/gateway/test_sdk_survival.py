"""What callers of the SDK notice of dead and hung gateways, routers and replicas: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import meshwork
from meshwork import channel
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.supervisor.ports import free_port
from tests.mesh.gateway.conftest import ROOT, Mesh, until
from tests.mesh.gateway.fake_replica import PIECES

SDK_LOAD = Path(__file__).with_name("sdk_load.py")


class Pair(Mesh):
    """Two routers, each with a gateway of its own, and two replicas."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.second = Mesh.__new__(Mesh)
        self.second.folder = folder / "second"
        self.second.folder.mkdir()
        self.second.processes = {}
        self.second.router_address = f"127.0.0.1:{free_port()}"
        self.second.gateway = f"127.0.0.1:{free_port()}"
        self.second.environment = {
            **self.environment,
            "MESHWORK_ROUTER_LISTEN": self.second.router_address,
            "MESHWORK_GATEWAY_LISTEN": self.second.gateway,
            "MESHWORK_RUN_DIR": str(self.second.folder),
        }

    @property
    def gateways(self) -> str:
        return f"{self.gateway},{self.second.gateway}"

    @property
    def routers(self) -> str:
        return f"{self.router_address},{self.second.router_address}"

    def stop(self) -> None:
        for process in self.second.processes.values():
            process.terminate()
            process.wait(timeout=20)
        super().stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    running = Pair(tmp_path_factory.mktemp("pair"))
    try:
        for name in ("nlp-1", "nlp-2"):
            running.start_replica(name, "minilm@1")
        running.start_router()
        running.second.start_router()
        yield running
    finally:
        running.stop()


class Load:
    """Callers in a process of their own; see sdk_load.py."""

    def __init__(self, address: str, router: str = "", workers: int = 8) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SDK_LOAD), address, router, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def saw(self, replica: str) -> bool:
        return f"{replica}\n" in self._lines

    def end(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        report: dict[str, Any] = json.loads(self._lines[-1])
        return report


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def ready(pair: Pair) -> None:
    for gateway in pair.gateways.split(","):
        with meshwork.connect(gateway) as mesh:

            def both(mesh: meshwork.Client = mesh) -> bool:
                with contextlib.suppress(meshwork.MeshworkError):
                    return len({mesh.nlp.embed("a").served_by.replica for _ in range(8)}) == 2
                return False

            until(both, "both replicas answer through each gateway")


@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_of_two_gateways_one_may_be_lost_under_load_and_no_call_is(pair: Pair, fault: str) -> None:
    ready(pair)
    envoy = pair.second.envoy()
    load = Load(pair.gateways)
    until(lambda: load.saw("nlp-1") and load.saw("nlp-2"), "calls are answered")
    if fault == "killed":
        envoy.kill()
        time.sleep(1)
        report = load.end()
    else:
        with suspended(envoy.pid):
            time.sleep(channel.HANG_S + 1)  # the fault itself, for longer than it takes to be noticed
            report = load.end()
    assert report["errors"] == []
    assert sum(report["answers"].values()) > 100


def test_a_stream_goes_on_when_its_gateway_or_its_replica_is_killed(pair: Pair) -> None:
    ready(pair)
    wanted = [f"{number} " for number in range(PIECES)]
    with meshwork.connect(pair.gateways) as mesh:
        streams = [mesh.nlp.generate(prompt="x") for _ in range(4)]
        got = [[next(stream).text for _ in range(10)] for stream in streams]
        pair.second.envoy().kill()
        for stream, texts in zip(streams, got, strict=True):
            texts += [piece.text for piece in stream]
        assert got == [wanted] * 4
    ready(pair)
    with meshwork.connect(pair.gateway) as mesh:
        streams = [mesh.nlp.generate(prompt="x") for _ in range(4)]
        got = [[next(stream).text for _ in range(10)] for stream in streams]
        pair.kill("nlp-2")
        for stream, texts in zip(streams, got, strict=True):
            texts += [piece.text for piece in stream]
        assert got == [wanted] * 4
    pair.start_replica("nlp-2", "minilm@1")


def test_a_replica_that_hangs_costs_a_proxyless_caller_no_call(pair: Pair) -> None:
    ready(pair)
    load = Load("xds:///", pair.routers)
    until(lambda: load.saw("nlp-1") and load.saw("nlp-2"), "both replicas answer")
    with suspended(pair.processes["nlp-2"].pid):
        time.sleep(channel.HANG_S + 1)
        report = load.end()
    assert report["errors"] == []
    assert report["answers"]["nlp-1"] > 100


def test_a_proxyless_caller_survives_the_end_of_either_router_and_still_learns_of_replicas(
    pair: Pair,
) -> None:
    ready(pair)
    load = Load("xds:///", pair.routers, workers=2)
    until(lambda: load.saw("nlp-1") and load.saw("nlp-2"), "both replicas answer")
    pair.kill("router")
    pair.start_replica("nlp-3", "minilm@1")
    until(lambda: load.saw("nlp-3"), "a replica that came when the first router was gone answers")
    pair.start_router()
    pair.second.kill("router")
    pair.start_replica("nlp-4", "minilm@1")
    until(lambda: load.saw("nlp-4"), "a replica that came when the second router was gone answers")
    report = load.end()
    pair.second.start_router()
    for name in ("nlp-3", "nlp-4"):
        pair.kill(name)
    assert report["errors"] == []


def test_nobody_who_pings_is_told_to_stop_idle_or_busy(pair: Pair) -> None:
    with meshwork.connect(pair.gateway) as mesh:
        replica = next(each.address for each in mesh.router.list_replicas() if each.name == "nlp-1")
    states: list[str] = []
    with contextlib.ExitStack() as stack:
        for address in (pair.gateway, pair.router_address, replica):
            for busy in (False, True):
                made = grpc.insecure_channel(address, options=channel.options("{}"))
                stack.callback(made.close)
                grpc.channel_ready_future(made).result(20)
                made.subscribe(lambda state, address=address: states.append(f"{address} {state}"))
                if busy and address != pair.router_address:
                    waiting = nlp_pb2_grpc.NlpServiceStub(made).Embed.future(
                        nlp_pb2.EmbedRequest(texts=["sleep"]), timeout=30
                    )
                    stack.callback(waiting.cancel)
        time.sleep(11)  # gRPC servers give up at the third ping too many, and these are one a second
        assert len(states) == 6
        assert all(state.endswith("READY") for state in states)
