"""Watches what replicas report, says what is odd, and names those that fail: the leader's loop.

Each round reads the reports, hands those of new windows to `Anomalies`, and writes an event for each
finding that begins or ends, with the newest traces that show it. Who leads anew learns for a few minutes
before it says anything; the statistics are imported by then only, since they take some memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from redis.asyncio import Redis

from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.reports import PERIOD_S, Report, Reports
from meshwork.state.traces import Traces
from services.router import happenings
from services.router.leading import Leading
from services.router.odd_replicas import odd_replicas
from services.router.registry import Registry

if TYPE_CHECKING:
    from services.router.anomalies import Anomalies, Finding

log = logging.getLogger(__name__)

ROUND_S = 1.0
REPLY_S = 1.5
EXAMPLES = 3
LOOKED_AT = 200  # traces, at most, for examples

ANOMALIES = Gauge("meshwork_anomalies", "Figures that are odd now.", ("service", "model", "figure"))
FOUND = Counter("meshwork_anomalies_found", "Figures that became odd.", ("service", "figure"))

Odd = Mapping[str, str]  # the evidence by replica


class Watching:
    """Watches while its router leads.

    Args:
        out: says whether a replica is kept from traffic, which makes its figures no evidence.
        bounds: by service and model version, `eject_failing` as a share and `eject_slow` as a factor.
        tell: takes an event to be written.

    Attributes:
        failing: the evidence against each replica that fails beside its peers.
        slow: the same of those that answer far slower.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        registry: Registry,
        leading: Leading,
        out: Callable[[str], bool],
        bounds: Callable[[str, str], tuple[float, float]],
        tell: Callable[[router_pb2.Event], None],
    ) -> None:
        self._reports = Reports(redis, keys)
        self._traces = Traces(redis, keys)
        self._tell = tell
        self._registry = registry
        self._leading = leading
        self._out = out
        self._bounds = bounds
        self._seen: dict[str, str] = {}  # by replica, its last window
        self._read: Mapping[str, router_pb2.Replica] = {}
        self._there: dict[str, list[str]] = {}  # of what was `_read`
        self._detector: Anomalies | None = None
        self.failing: Odd = {}
        self.slow: Odd = {}

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            if not self._leading.grant:
                self._rest()
                continue
            try:
                async with asyncio.timeout(REPLY_S):
                    await self._round()
            except REDIS_AWAY as error:  # TimeoutError is one of them
                log.debug("reports can't be read: %s", error)

    def _rest(self) -> None:
        if self._detector is not None:
            ANOMALIES.clear()
        self._detector, self._seen = None, {}
        self.failing, self.slow = {}, {}

    async def _round(self) -> None:
        reports = await self._reports.all()
        replicas = self._registry.replicas
        if self._registry.known:
            await self._reports.remove(reports.keys() - replicas.keys())
        if self._detector is None:
            # River brings numpy and scipy along.
            module = await asyncio.to_thread(_detector)
            self._detector = module()
        new = {
            name: report
            for name, report in reports.items()
            if name in replicas and self._seen.get(name) != report.window
        }
        self._seen = {name: report.window for name, report in reports.items()}
        begun, over = self._judge(self._detector, new, replicas)
        for finding in begun:
            log.warning("%s", words(finding))
            FOUND.labels(finding.service, finding.figure).inc()
            event = _event(finding)
            with contextlib.suppress(*REDIS_AWAY):
                event.trace_ids[:] = await self._examples(finding)
            self._tell(event)
        for finding in over:
            self._tell(_over(finding))

    def _judge(
        self, detector: Anomalies, new: Mapping[str, Report], replicas: Mapping[str, router_pb2.Replica]
    ) -> tuple[list[Finding], list[Finding]]:
        now = time.time()
        if replicas is not self._read:  # leases change seldom, and there may be ten thousand
            self._read, self._there = replicas, _there(replicas)
        there = self._there
        windows = {
            name: (replicas[name].service, report.seconds, report.models)
            for name, report in new.items()
            if name in there and not self._out(name)
        }
        begun, over = detector.round(windows, there, now)
        ANOMALIES.clear()
        for finding in detector.found.values():
            ANOMALIES.labels(finding.service, finding.model, finding.figure).inc()
        fresh = [each for key, each in detector.found.items() if now - detector.bad(key) < 1.5 * PERIOD_S]
        self.failing, self.slow = odd_replicas(fresh, self._bounds)
        return begun, over

    async def _examples(self, finding: Finding) -> list[str]:
        """Traces of the service that failed, or were slow, since the finding began; the newest first."""
        found: list[str] = []
        looked = 0
        async for each in self._traces.summaries(kept_only=finding.figure == "errors"):
            looked += 1
            if looked > LOOKED_AT or each.end_us < (finding.since - 2 * PERIOD_S) * 1e6:
                break
            if finding.service in each.services and each.failed == (finding.figure == "errors"):
                found.append(each.trace_id)
            if len(found) == EXAMPLES:
                break
        return found


def _there(replicas: Mapping[str, router_pb2.Replica]) -> dict[str, list[str]]:
    """The models, as `name@version`, that are ready on each replica that is."""
    return {
        name: [
            f"{model.name}@{model.version}"
            for model in each.models
            if model.state == router_pb2.MODEL_STATE_READY
        ]
        for name, each in replicas.items()
        if each.state == router_pb2.REPLICA_STATE_READY
    }


def _detector() -> type[Anomalies]:
    from services.router.anomalies import Anomalies

    return Anomalies


_WORDS = {
    "latency": "answers take {seen:.3g} ms, {expected:.3g} expected",
    "queue": "calls wait {seen:.3g} ms in the queue, {expected:.3g} expected",
    "errors": "{seen:.1%} of calls fail, {expected:.1%} expected",
    "traffic": "{seen:.3g} calls a second, {expected:.3g} expected",
    "surge": "{seen:.3g} calls a second, {expected:.3g} expected",
    "confidence": "answers have a confidence of {seen:.2f}, {expected:.2f} expected",
    "confidence up": "answers have a confidence of {seen:.2f}, {expected:.2f} expected",
    "labels": "{seen:.0%} of answers have other labels than usual, {expected:.0%} expected",
}


def words(finding: Finding) -> str:
    """A finding in a sentence."""
    what = _WORDS[finding.figure].format(seen=finding.seen, expected=finding.expected)
    beside = "of its peers" if finding.replica else "of its past"
    since = time.strftime("%H:%M:%S", time.localtime(finding.since))
    return f"{finding.model}: {what} {beside} ({finding.z:.0f} spreads off), since {since}"


def _event(finding: Finding) -> router_pb2.Event:
    surge = finding.figure == "surge"
    level = router_pb2.EVENT_LEVEL_INFO if surge else router_pb2.EVENT_LEVEL_WARNING
    return _happened(finding, level, words(finding))


def _over(finding: Finding) -> router_pb2.Event:
    text = f"{finding.model}: {finding.figure} as usual again"
    return _happened(finding, router_pb2.EVENT_LEVEL_INFO, text)


def _happened(finding: Finding, level: router_pb2.EventLevel.ValueType, text: str) -> router_pb2.Event:
    return happenings.happened(
        router_pb2.EVENT_KIND_ANOMALY,
        level,
        text,
        service=finding.service,
        subject=finding.replica or finding.model,
    )
