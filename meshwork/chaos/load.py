"""Steady load on a mesh, made by a process of its own so that whoever measures does not disturb it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Self

from meshwork.chaos.caller import Call, Plan
from meshwork.errors import Internal

LINE_BYTES = 1 << 20
SPARE_S = 10.0  # beyond the deadline that the calls under way have when the load ends


class Load:
    """Callers at work while the `async with` lasts; `calls` grows as their calls end."""

    def __init__(self, plan: Plan) -> None:
        self.calls: list[Call] = []
        self._plan = plan
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "meshwork.chaos.caller"),
            # gRPC's own remarks on each connection that breaks are what is expected here.
            env={"GRPC_VERBOSITY": "NONE", **os.environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for us; it ends when we close its input
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(self._plan)).encode() + b"\n")
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.calls.append(Call(*json.loads(line)))

    def check(self) -> None:
        """Raises:
        Internal: the callers' process has ended by itself.
        """
        if self._process is not None and self._process.returncode is not None:
            raise Internal(f"the process of the callers ended by itself, status {self._process.returncode}")

    async def stop(self) -> None:
        """Lets the callers finish what is under way, and reads the rest."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(self._plan.deadline_s + SPARE_S):
                await self._process.wait()
                await self._reading
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()  # nobody will read what is under way
            await self._process.wait()
        if self._reading is not None:
            self._reading.cancel()
