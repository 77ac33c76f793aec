"""The running mesh as one who breaks it sees it: processes, leases, addresses."""

from __future__ import annotations

import asyncio
import time

import psutil

from meshwork.client import AsyncClient, connect_async
from meshwork.config import MeshConfig, from_json
from meshwork.errors import FailedPrecondition, MeshworkError
from meshwork.router.v1.router_pb2 import REPLICA_STATE_READY, Replica
from meshwork.supervisor.home import Home, MeshRecord, ProcessRecord, alive

POLL_S = 0.05
ANSWER_S = 1.0  # the longest to wait for a router that is asked again soon


class Mesh:
    """The mesh of a home. Use it in an `async with`."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.clients: list[AsyncClient] = []  # one a router

    @property
    def record(self) -> MeshRecord:
        """What runs now.

        Raises:
            FailedPrecondition: nothing does.
        """
        record = self.home.running()
        if record is None:
            raise FailedPrecondition(f"no mesh runs in {self.home.root}; start one with `meshwork up -d`")
        return record

    @property
    def config(self) -> MeshConfig:
        """As the mesh was started."""
        return from_json(self.record.config)

    @property
    def gateways(self) -> list[str]:
        """`host:port` of each gateway."""
        return self.record.gateways

    @property
    def routers(self) -> list[str]:
        """`host:port` of each router."""
        return self.record.routers

    async def __aenter__(self) -> Mesh:
        self.clients = [connect_async(address, timeout_s=ANSWER_S) for address in self.routers]
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()

    async def replicas(self, service: str = "") -> list[Replica]:
        """The replicas that hold a lease, as the first router says that answers.

        Raises:
            MeshworkError: none answers.
        """
        for client in self.clients[:-1]:
            try:
                return await client.router.list_replicas(service=service)
            except MeshworkError:
                continue
        return await self.clients[-1].router.list_replicas(service=service)

    async def serving(self, service: str = "") -> list[Replica]:
        """Those that take traffic; none while no router answers."""
        try:
            found = await self.replicas(service)
        except MeshworkError:
            return []
        return [each for each in found if each.state == REPLICA_STATE_READY and not each.HasField("ejection")]

    async def until_replaced(self, replica: Replica, count: int, wait_s: float) -> bool:
        """Waits until `count` replicas of its service serve and that very process is none of them."""
        give_up = time.monotonic() + wait_s
        while time.monotonic() < give_up:
            serving = await self.serving(replica.service)
            old = any((each.name, each.pid) == (replica.name, replica.pid) for each in serving)
            if not old and len(serving) >= count:
                return True
            await asyncio.sleep(POLL_S)
        return False

    def processes(self, role: str) -> list[ProcessRecord]:
        """Processes of a role, for example `router`."""
        return [process for process in self.record.processes if process.role == role]

    def process(self, name: str) -> psutil.Process:
        """The process `name`.

        Raises:
            FailedPrecondition: it does not run on this machine.
        """
        for process in self.record.processes:
            if process.name == name and (found := alive(process)):
                return found
        raise FailedPrecondition(f"{name} is no process of this machine's mesh that runs now")
