"""Takes replicas out of traffic and lets them back: the loop of the leader around the judges.

Each round reads who is late (a range query that gives only those), asks the judges, and writes the
difference to what Redis has. A round that fails, or takes long, says that Redis can't be trusted:
nobody is judged by lateness for a while. A router that begins to lead goes on from what Redis has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.ejections import Ejections
from meshwork.state.leader import Deposed
from meshwork.state.leases import LeaseBook
from services.router.hung import SILENT_S, HungJudge
from services.router.leading import Leading
from services.router.model_versions import ModelVersion
from services.router.registry import Registry
from services.router.slow import SlowJudge, slow_ones

log = logging.getLogger(__name__)

ROUND_S = 0.25
LONG_S = 0.5  # a round that took longer was held up by Redis
SLOW_ROUND_S = 1.0
REPLY_S = 1.0

_HUNG, _SLOW = router_pb2.EJECTION_REASON_HUNG, router_pb2.EJECTION_REASON_SLOW
_FAILING = router_pb2.EJECTION_REASON_FAILING


class Ejecting:
    """Ejects while its router leads.

    Args:
        ratio_of: by model version, how many times slower than its peers is too slow; 0 for never.
        reported: the evidence by replica of those that, by their reports, fail and are slow.
    """

    def __init__(
        self,
        book: LeaseBook,
        ejections: Ejections,
        registry: Registry,
        leading: Leading,
        ratio_of: Callable[[ModelVersion], float],
        reported: Callable[[], tuple[Mapping[str, str], Mapping[str, str]]] = lambda: ({}, {}),
    ) -> None:
        self._book = book
        self._ejections = ejections
        self._registry = registry
        self._leading = leading
        self._ratio_of = ratio_of
        self._reported = reported
        self._hung = HungJudge()
        self._slow = SlowJudge()
        self._failing = SlowJudge()  # what is tried again, and when, is the same for both
        self._grant = ""
        self._judged: object = None  # the replicas that the slow judge saw last
        self._next_slow = float("-inf")
        self._silent: dict[
            str, tuple[float, float]
        ] = {}  # by replica: how long silent, and when that was seen

    def silent_s(self, name: str) -> float | None:
        """How long the replica `name` is silent, if it was late just now; None if it was not."""
        for_s, seen = self._silent.get(name, (0.0, float("-inf")))
        ago_s = asyncio.get_running_loop().time() - seen
        return for_s + ago_s if ago_s < 2 * REPLY_S else None

    async def run(self) -> None:
        """Judges and writes until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(ROUND_S)
            begun = clock()
            try:
                async with asyncio.timeout(REPLY_S):
                    await self._round()
            except Deposed:
                self._leading.deposed(self._grant)
            except REDIS_AWAY as error:  # TimeoutError is one of them
                log.debug("lateness can't be read: %s", error)
            else:
                if clock() - begun < LONG_S:
                    continue
            self._hung.blind(clock())

    async def _round(self) -> None:
        clock = asyncio.get_running_loop().time
        # Every router looks who is late, to say why a lease lapsed; only the leader acts on it.
        count, silent = await self._book.late(SILENT_S)
        self._silent = {name: (for_s, clock()) for name, for_s in silent.items()} or self._silent
        grant = self._leading.grant
        if not grant:
            self._grant = ""
            return
        stored = await self._ejections.all()
        if grant != self._grant:
            self._adopt(stored)
            self._grant = grant
        self._judge(count, silent)
        wanted = {name: _ejection(_SLOW, detail) for name, detail in self._slow.slow.items()}
        wanted |= {name: _ejection(_FAILING, detail) for name, detail in self._failing.slow.items()}
        for name, for_s in self._hung.hung.items():
            wanted[name] = _ejection(_HUNG, f"its lease is late: silent for {for_s:.1f} s")
        put = {
            name: each
            for name, each in wanted.items()
            if name not in stored or stored[name].reason != each.reason
        }
        lifted = stored.keys() - wanted.keys()
        if put or lifted:
            await self._ejections.apply(put, sorted(lifted), grant)

    def _judge(self, count: int, silent: dict[str, float]) -> None:
        now = asyncio.get_running_loop().time()
        replicas = self._registry.replicas
        ready = {name: for_s for name, for_s in silent.items() if name in replicas and _ready(replicas[name])}
        self._hung.judge(ready, count - len(self._hung.hung), now)
        failing, slow = self._reported()
        busy = self._slow.busy or self._failing.busy or failing or slow
        if now >= self._next_slow and (replicas is not self._judged or busy):
            self._next_slow, self._judged = now + SLOW_ROUND_S, replicas
            there = [name for name, each in replicas.items() if _ready(each)]
            self._slow.judge({**slow, **slow_ones(replicas.values(), self._ratio_of)}, there, now)
            self._failing.judge(dict(failing), there, now)

    def _adopt(self, stored: dict[str, router_pb2.Ejection]) -> None:
        """Begins a term, with what the leader before left."""
        now = asyncio.get_running_loop().time()
        self._hung, self._slow, self._judged = HungJudge(), SlowJudge(), None
        self._failing = SlowJudge()
        self._hung.blind(now)
        self._hung.adopt({name: SILENT_S for name, each in stored.items() if each.reason == _HUNG})
        for name, each in stored.items():
            judge = {_SLOW: self._slow, _FAILING: self._failing}.get(each.reason)
            if judge is not None:
                judge.adopt(name, each.detail, time.time() - each.since.ToMilliseconds() / 1000, now)


def _ready(replica: router_pb2.Replica) -> bool:
    return replica.state == router_pb2.REPLICA_STATE_READY


def _ejection(reason: router_pb2.EjectionReason.ValueType, detail: str) -> router_pb2.Ejection:
    ejection = router_pb2.Ejection(reason=reason, detail=detail)
    ejection.since.GetCurrentTime()
    return ejection
