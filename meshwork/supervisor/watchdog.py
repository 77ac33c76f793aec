"""Ends routers that hang: a process that is there, keeps its connections and answers nobody.

Their clients notice late: gRPC's own client of xDS pings no discovery stream. So each router is asked
for its health every PROBE_S, and one that has not answered for PROBES probes in a row is killed, or for
STARTING of them if it never did; whoever runs it starts it again. Any answer will do. A probe that ended
late was held up by this process or the machine, and counts for nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import psutil

PROBE_S = 1.0  # from one probe to the next, and for an answer
PROBES = 3
STARTING = 30  # what a process may take until it answers for the first time
BUSY_S = 0.02  # of a core from one probe to the next: a process that used more is starved or busy
PATIENCE = 5  # so many times as many probes has one that is
LATE_S = 0.5
_SILENT = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class Silence:
    """Counts one process's probes without an answer; no input or output.

    Args:
        probes: so many in a row, and it hangs, once it has answered at all.
    """

    def __init__(self, probes: int = PROBES) -> None:
        self._probes = probes
        self._pid = 0
        self._answered = False
        self._missed = 0
        self._cpu_s = 0.0  # at the probe before

    def hung(self, pid: int, *, answered: bool, late: bool, cpu_s: float) -> bool:
        """Takes a probe of the process `pid` in; whether that process hangs.

        Args:
            late: whether the probe itself took longer than it may.
            cpu_s: CPU time that the process has used in its life.
        """
        if pid != self._pid:
            self._pid, self._answered, self._missed, self._cpu_s = pid, False, 0, cpu_s
        if answered:
            self._answered, self._missed = True, 0
        elif not late:
            self._missed += 1
        works, self._cpu_s = cpu_s - self._cpu_s > BUSY_S, cpu_s
        most = self._probes if self._answered else STARTING
        return self._missed >= most * (PATIENCE if works else 1)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, in seconds; 0 if it is gone."""
    try:
        return sum(psutil.Process(pid).cpu_times()[:2])
    except psutil.Error:
        return 0.0


async def answers(address: str) -> bool:
    """Whether the router at `address` answers within PROBE_S, whatever it says."""
    # A channel of its own: one that lost its connection waits before it tries again.
    async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            await check(b"", timeout=PROBE_S)
        except grpc.RpcError as error:
            return error.code() not in _SILENT
        return True


async def watch(address: str, pid: Callable[[], int], end: Callable[[], Awaitable[None]]) -> None:
    """Probes the router at `address` until cancelled.

    Args:
        pid: its process now; 0 while there is none.
        end: ends it, when it hangs.
    """
    silence, clock = Silence(), time.monotonic
    while True:
        begun, asked = clock(), pid()
        answered = bool(asked) and await answers(address)
        late = clock() - begun > PROBE_S + LATE_S
        used_s = cpu_s(asked)
        if asked == pid() != 0 and silence.hung(asked, answered=answered, late=late, cpu_s=used_s):
            await end()
            silence = Silence()
        await asyncio.sleep(max(0.0, begun + PROBE_S - clock()))
