"""A replica that is cut off from everybody, without root: it stands behind relays, which then go silent.

The mesh's own replicas have no relay, so a replica of the service is started for it, with the
environment of the mesh's own; it listens on 127.0.0.2 and gives 127.0.0.1 as its address, where the
relay listens on the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from meshwork.chaos.faults import Fault, replica_with_peer
from meshwork.chaos.mesh import POLL_S, Mesh
from meshwork.chaos.relay import Relay
from meshwork.errors import FailedPrecondition
from meshwork.process import PARENT_VARIABLE
from meshwork.supervisor import commands
from meshwork.supervisor.ports import free_port

HIDDEN, SHOWN = "127.0.0.2", "127.0.0.1"
READY_S, END_S = 120.0, 30.0


class Partition(Fault):
    """An extra replica whose network is cut."""

    name: ClassVar[str] = "partition"

    def __init__(self, mesh: Mesh, *, duration_s: float) -> None:
        super().__init__(mesh, duration_s=duration_s)
        self._service = ""
        self._relays: list[Relay] = []
        self._process: asyncio.subprocess.Process | None = None

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault; the new replica's peers are those that there are, so one is enough."""
        self._service = (await replica_with_peer(self.mesh, target, force=True)).service
        self.victim = self.subject = f"{self._service}-chaos-{secrets.token_hex(2)}"

    def says(self) -> str:
        """See Fault."""
        return (
            f"starts one more replica of {self._service}, {self.victim}, behind relays; cuts it off from "
            f"callers and Redis for {self.duration_s:g} s, mends that, drains it and stops it"
        )

    async def prepare(self) -> None:
        """Starts the replica and waits until it takes traffic.

        Raises:
            FailedPrecondition: it did not in time, or its Redis is reached in no way that a relay knows.
        """
        record, config = self.mesh.record, self.mesh.config
        settings = next(own for name, own in config.services.items() if name == self._service)
        port = free_port(SHOWN)
        self.address = f"{SHOWN}:{port}"
        await self._relay((HIDDEN, port), SHOWN, port)
        redis_url = await self._through_relay(record.redis_url)
        command = commands.replica(config, self._service, settings, self.victim, redis_url, self.mesh.routers)
        log = self.mesh.home.open_log(self.victim)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={
                    **os.environ,
                    **command.environment,
                    "MESHWORK_LISTEN": f"{HIDDEN}:{port}",
                    "MESHWORK_ADVERTISE": SHOWN,
                    "MESHWORK_HTTP_LISTEN": "off",
                    PARENT_VARIABLE: str(os.getpid()),  # it goes if we do
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        give_up = time.monotonic() + READY_S
        while self.victim not in {each.name for each in await self.mesh.serving(self._service)}:
            if self._process.returncode is not None or time.monotonic() > give_up:
                lines = "\n".join(self.mesh.home.last_lines(self.victim, 15))
                raise FailedPrecondition(f"{self.victim} did not become ready:\n{lines}")
            await asyncio.sleep(POLL_S)

    async def _relay(self, to: tuple[str, int], host: str, port: int = 0) -> int:
        relay = Relay(to)
        self._relays.append(relay)
        return await relay.start(host, port)

    async def _through_relay(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "redis" or "," in parts.netloc or not parts.hostname:
            raise FailedPrecondition(
                f"a partition needs a Redis at one redis:// address, not {parts.scheme}://"
            )
        port = await self._relay((parts.hostname, parts.port or 6379), SHOWN)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{SHOWN}:{port}"))

    async def begin(self) -> None:
        """See Fault."""
        for relay in self._relays:
            relay.cut()

    async def end(self) -> None:
        """See Fault."""
        for relay in self._relays:
            relay.mend()

    async def clear(self) -> None:
        """Drains the replica and stops it."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        for relay in self._relays:
            await relay.stop()
