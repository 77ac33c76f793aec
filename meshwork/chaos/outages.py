"""Outages of what replicas lean on: Redis, a router, a gateway.

What is down is killed again each time that it comes back, until the fault ends; then whoever runs it
starts it again, after the backoff that the crashes have earned it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import psutil
from redis.asyncio import Redis

from meshwork.chaos.faults import Fault
from meshwork.chaos.mesh import POLL_S, Mesh
from meshwork.errors import FailedPrecondition, Unavailable
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.keys import Keys
from meshwork.supervisor.home import alive
from meshwork.supervisor.supervisor import gateways

LOOK_S = 0.1
BACK_S = 60.0
KEYS_A_TIME = 500


class Outage(Fault):
    """A process that is kept down."""

    def __init__(self, mesh: Mesh, *, duration_s: float) -> None:
        super().__init__(mesh, duration_s=duration_s)
        self._killing: asyncio.Task[None] | None = None

    @abstractmethod
    def _running(self) -> list[psutil.Process]:
        """The processes that shall not run."""

    async def begin(self) -> None:
        """See Fault."""
        self._kill()
        self._killing = asyncio.create_task(self._keep_down())

    def _kill(self) -> None:
        for process in self._running():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    async def _keep_down(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._kill()

    async def end(self) -> None:
        """Lets it come back, and waits until it has."""
        if self._killing is None:
            return
        self._killing.cancel()
        await asyncio.wait([self._killing])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                while not (self._running() and await self.mesh.serving()):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)

    def _of_role(self, role: str, name: str) -> list[psutil.Process]:
        found = [alive(process) for process in self.mesh.processes(role) if process.name == name]
        return [process for process in found if process is not None]


class RedisDown(Outage):
    """The embedded Valkey is killed."""

    name: ClassVar[str] = "redis-down"

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        self.subject = "valkey"
        if not self._running():
            raise FailedPrecondition(
                "the mesh's Redis is not run by the mesh, so it is not for the mesh to stop: stop it yourself"
            )

    def says(self) -> str:
        """See Fault."""
        return (
            f"kills the mesh's Valkey with SIGKILL, and again whenever it comes back, for "
            f"{self.duration_s:g} s; what was written in the last second before may be lost"
        )

    def _running(self) -> list[psutil.Process]:
        return self._of_role("valkey", "valkey")


class RouterDown(Outage):
    """A router is killed."""

    name: ClassVar[str] = "router-down"

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        self.subject = self.mesh.processes("router")[0].name

    def says(self) -> str:
        """See Fault."""
        return (
            f"kills {self.subject} with SIGKILL, and again whenever it comes back, for {self.duration_s:g} s"
        )

    def _running(self) -> list[psutil.Process]:
        return self._of_role("router", self.subject)


class GatewayDown(Outage):
    """A gateway is killed."""

    name: ClassVar[str] = "gateway-down"
    _command: Sequence[str] = ()

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        found = sorted(gateways(self.mesh.home), key=lambda process: process.create_time())
        if not found:
            raise FailedPrecondition("no gateway of this mesh runs on this machine")
        if len(found) == 1 and not force:
            raise FailedPrecondition(
                "there is one gateway, so its callers would have no other: give `gateway.listen` of "
                "mesh.yaml two addresses, or say --force"
            )
        self._command = found[0].cmdline()
        self.subject = f"gateway (pid {found[0].pid})"

    def says(self) -> str:
        """See Fault."""
        return (
            f"kills the Envoy of the {self.subject} with SIGKILL, and again whenever it comes back, "
            f"for {self.duration_s:g} s"
        )

    def _running(self) -> list[psutil.Process]:
        found = []
        for process in gateways(self.mesh.home):
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == self._command:
                    found.append(process)
        return found


class RedisEmptied(Fault):
    """Every key of the mesh is deleted, as if Redis had been restarted without its disk."""

    name: ClassVar[str] = "redis-emptied"

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        self.subject = "every key of the mesh in Redis"
        self._kept: dict[str, tuple[bytes, int]] = {}

    def says(self) -> str:
        """See Fault."""
        return (
            f"deletes every key of mesh {self.mesh.record.name} in Redis, and after {self.duration_s:g} s "
            "puts back those that nobody has written anew"
        )

    async def begin(self) -> None:
        """See Fault."""
        redis = self._redis()
        try:
            pattern = f"{Keys(mesh=self.mesh.record.name).name('')}*"
            async for key in redis.scan_iter(match=pattern, count=KEYS_A_TIME):
                content, left_ms = await redis.dump(key), await redis.pttl(key)
                if content is not None:
                    self._kept[key] = content, max(0, left_ms)
            for key in self._kept:
                await redis.delete(key)
        except REDIS_AWAY as error:
            raise Unavailable(f"Redis does not answer: {error}") from error
        finally:
            await redis.aclose()

    async def end(self) -> None:
        """See Fault."""
        redis = self._redis()
        try:
            for key, (content, left_ms) in self._kept.items():
                if not await redis.exists(key):
                    await redis.restore(key, left_ms, content)
        except REDIS_AWAY as error:
            raise Unavailable(f"Redis does not answer, its keys can't be put back: {error}") from error
        finally:
            await redis.aclose()

    def _redis(self) -> Redis:
        """A connection whose replies are bytes: what DUMP gives is no text."""
        redis = connect(self.mesh.record.redis_url)
        redis.connection_pool.connection_kwargs["decode_responses"] = False
        return redis
