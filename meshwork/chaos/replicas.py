"""Faults of a replica's process: killed, told to end, hung, slow."""

from __future__ import annotations

import asyncio
import contextlib
from typing import ClassVar

import psutil

from meshwork.chaos.faults import ReplicaFault

BACK_S = 60.0
PERIOD_S, RUNS = 0.1, 0.1  # of a slowed process: seconds of a turn, and the part of it that it runs


class Kill(ReplicaFault):
    """SIGKILL: the process is gone without a word."""

    name: ClassVar[str] = "kill"

    def says(self) -> str:
        """See Fault."""
        return f"kills {self.victim} (pid {self.replica.pid}) with SIGKILL; the mesh starts it again"

    async def begin(self) -> None:
        """See Fault."""
        self.mesh.process(self.victim).kill()

    async def end(self) -> None:
        """Waits until the service has as many replicas as before."""
        await self.mesh.until_replaced(self.replica, self.peers, BACK_S)


class Terminate(Kill):
    """SIGTERM: the process drains and ends."""

    name: ClassVar[str] = "terminate"

    def says(self) -> str:
        """See Fault."""
        return f"ends {self.victim} (pid {self.replica.pid}) with SIGTERM; the mesh starts it again"

    async def begin(self) -> None:
        """See Fault."""
        self.mesh.process(self.victim).terminate()


class Hang(ReplicaFault):
    """SIGSTOP: the process keeps its connections and does nothing."""

    name: ClassVar[str] = "hang"
    _process: psutil.Process | None = None

    def says(self) -> str:
        """See Fault."""
        return (
            f"stops {self.victim} (pid {self.replica.pid}) with SIGSTOP, and lets it go on with SIGCONT "
            f"after {self.duration_s:g} s"
        )

    async def begin(self) -> None:
        """See Fault."""
        self._process = self.mesh.process(self.victim)
        self._process.suspend()

    async def end(self) -> None:
        """See Fault."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.resume()


class Slow(Hang):
    """SIGSTOP and SIGCONT in turn: the process gets a tenth of its time."""

    name: ClassVar[str] = "slow"
    _slowing: asyncio.Task[None] | None = None

    def says(self) -> str:
        """See Fault."""
        return (
            f"slows {self.victim} (pid {self.replica.pid}) by SIGSTOP and SIGCONT: of each "
            f"{PERIOD_S * 1e3:g} ms it runs {PERIOD_S * RUNS * 1e3:g}, for {self.duration_s:g} s"
        )

    async def begin(self) -> None:
        """See Fault."""
        self._process = self.mesh.process(self.victim)
        self._slowing = asyncio.create_task(self._turns(self._process))

    async def _turns(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                process.suspend()
                await asyncio.sleep(PERIOD_S * (1 - RUNS))
                process.resume()
                await asyncio.sleep(PERIOD_S * RUNS)

    async def end(self) -> None:
        """See Fault."""
        if self._slowing is not None:
            self._slowing.cancel()
            await asyncio.wait([self._slowing])
        await super().end()
