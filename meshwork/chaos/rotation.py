"""Watches whether gateways and routers still count a replica as one that takes traffic.

Gateways are asked through the admin interface of their Envoy, whose socket its bootstrap in the mesh's
run folder names; without one (the gateway runs elsewhere) only callers tell.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import socket
import time
from pathlib import Path
from typing import Any

from meshwork.chaos.mesh import Mesh
from meshwork.errors import MeshworkError

LOOK_S = 0.05
ANSWER_S = 1.0


class Rotation:
    """What was seen of the replica `name` at `address` from `since` on; `run` looks until cancelled.

    Attributes:
        healthy_until: the last time that a gateway counted it as healthy.
        back: when a new process of that name took traffic; inf if none did.
        reason: why the routers ejected it; "" if they did not.
    """

    def __init__(self, mesh: Mesh, name: str, address: str, pid: int) -> None:
        self.healthy_until = 0.0
        self.back = math.inf
        self.reason = ""
        self._mesh = mesh
        self._name = name
        self._address = address
        self._pid = pid
        self._sockets = admin_sockets(mesh.home.run_dir)

    async def run(self) -> None:
        """Looks, until cancelled."""
        while True:
            began = time.monotonic()
            healthy = await asyncio.gather(
                *(asyncio.to_thread(_counts_as_healthy, path, self._address) for path in self._sockets)
            )
            if any(healthy) and math.isinf(self.back):
                self.healthy_until = began
            await self._ask_router()
            await asyncio.sleep(LOOK_S)

    async def _ask_router(self) -> None:
        try:
            replicas = await self._mesh.replicas()
        except MeshworkError:
            return
        for each in replicas:
            if each.name == self._name:
                if each.HasField("ejection") and not self.reason:
                    self.reason = each.ejection.detail
                if self._pid and each.pid != self._pid:
                    self.back = min(self.back, time.monotonic())


def admin_sockets(run_dir: Path) -> list[str]:
    """Where the gateways' Envoys listen for their operators."""
    found = []
    for path in sorted(run_dir.rglob("envoy.json")):
        try:
            bootstrap = json.loads(path.read_text(encoding="utf-8"))
            found.append(str(bootstrap["admin"]["address"]["pipe"]["path"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


class _Admin(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _counts_as_healthy(path: str, address: str) -> bool:
    """Whether the Envoy behind `path` has `address` in a cluster and would send it a call."""
    connection = _Admin(path)
    try:
        connection.request("GET", "/clusters?format=json")
        clusters = json.loads(connection.getresponse().read()).get("cluster_statuses", [])
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    hosts = [host for cluster in clusters for host in cluster.get("host_statuses", [])]
    return any(_address(host) == address and _healthy(host.get("health_status", {})) for host in hosts)


def _address(host: dict[str, Any]) -> str:
    where = host.get("address", {}).get("socket_address", {})
    return f"{where.get('address')}:{where.get('port_value')}"


def _healthy(status: dict[str, Any]) -> bool:
    failed = any(value is True for name, value in status.items() if name.startswith(("failed_", "pending_")))
    return not failed and status.get("eds_health_status", "HEALTHY") in ("HEALTHY", "UNKNOWN")
