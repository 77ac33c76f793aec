"""What replicas say of their last calls, for the leader to judge: one hash, an entry a replica.

Each entry is the replica's last window of PERIOD_S and takes the place of the one before, so the hash
is as large as the mesh. It lapses when nobody reports; entries of replicas that are gone are removed by
the leader. A report is evidence, not accounting: one that is lost costs PERIOD_S of sight.

Latencies are kept in buckets that grow by a quarter each, so that a quantile is within 12%
(Masson et al., "DDSketch", VLDB 2019).
"""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from meshwork.state.keys import Keys

log = logging.getLogger(__name__)

PERIOD_S = 5.0
LAPSE_S = 60
LABELS = 64  # labels are told apart by a hash of so many values
MODELS = 200  # of a replica, at most
_BASE = math.log(1.25)
_LOWEST, _HIGHEST = -40, 90  # buckets: 0.13 us to 1.5 h


@dataclass(slots=True)
class Figures:
    """A replica's calls of one model version in one window."""

    calls: int = 0
    errors: int = 0  # calls that failed by the replica's fault
    timed: int = 0  # calls that were answered; `ln_ms` is the sum of the logarithms of their ms
    ln_ms: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)  # of their ms
    queue_s: float = 0.0  # the sum of their times in the queue
    judged: int = 0  # answers that came with a confidence; `confidence` is the sum
    confidence: float = 0.0
    labels: dict[int, int] = field(default_factory=dict)  # of answers, by the label's hash

    def answered(self, took_s: float, queue_s: float) -> None:
        """Counts a call that was answered."""
        ln_ms = math.log(max(took_s * 1000, 1e-4))
        bucket = min(max(round(ln_ms / _BASE), _LOWEST), _HIGHEST)
        self.calls += 1
        self.timed += 1
        self.ln_ms += ln_ms
        self.queue_s += queue_s
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def observed(self, confidence: float, label: str) -> None:
        """Counts an answer of that confidence, 0 to 1, and that label, "" for none."""
        self.judged += 1
        self.confidence += confidence
        if label:
            number = zlib.crc32(label.encode()) % LABELS
            self.labels[number] = self.labels.get(number, 0) + 1

    def quantile_ms(self, share: float) -> float:
        """The latency below which that share of the answers lies, in ms; 0 without any."""
        left = share * sum(self.buckets.values())
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return math.exp(bucket * _BASE)
        return 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One window of one process.

    Attributes:
        window: a mark that no other window of the replica has.
        seconds: the window's length.
        models: what was called in it, by `name@version`.
    """

    window: str
    seconds: float
    models: Mapping[str, Figures]


def to_json(report: Report) -> str:
    """As `from_json` reads it."""
    models = {
        name: {
            "calls": each.calls,
            "errors": each.errors,
            "timed": each.timed,
            "ln_ms": round(each.ln_ms, 4),
            "buckets": each.buckets,
            "queue_s": round(each.queue_s, 6),
            "judged": each.judged,
            "confidence": round(each.confidence, 4),
            "labels": each.labels,
        }
        for name, each in report.models.items()
    }
    return json.dumps({"window": report.window, "seconds": round(report.seconds, 3), "models": models})


def from_json(text: str) -> Report:
    """What `to_json` wrote.

    Raises:
        ValueError: it is no report.
    """
    try:
        body = json.loads(text)
        models = {str(name): _figures(each) for name, each in list(body["models"].items())[:MODELS]}
        report = Report(str(body["window"]), float(body["seconds"]), models)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no report: {error!r}") from error
    if not 0 < report.seconds < math.inf:
        raise ValueError("no report: its window has no length")
    return report


def _figures(body: Mapping[str, Any]) -> Figures:
    figures = Figures(
        *(int(body["calls"]), int(body["errors"]), int(body["timed"]), float(body["ln_ms"])),
        {int(key): int(count) for key, count in body["buckets"].items() if _LOWEST <= int(key) <= _HIGHEST},
        *(float(body["queue_s"]), int(body["judged"]), float(body["confidence"])),
        {int(key): int(count) for key, count in body["labels"].items() if 0 <= int(key) < LABELS},
    )
    counts = [figures.calls, figures.errors, figures.timed, figures.judged]
    counts += [*figures.buckets.values(), *figures.labels.values()]
    sums = (figures.ln_ms, figures.queue_s, figures.confidence)
    if min(counts) < 0 or max(counts) > 1 << 40 or not all(abs(each) < 1e15 for each in sums):
        raise ValueError("no report: a figure is out of range")
    if max(figures.errors, figures.timed) > figures.calls or figures.queue_s < 0:
        raise ValueError("no report: its figures contradict each other")
    return figures


def _read(name: str, body: str) -> Report | None:
    try:
        return from_json(body)
    except ValueError as error:
        log.warning("the report of %s can't be read and is left out: %s", name, error)
        return None


class Reports:
    """Reads and writes the reports, by replica."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._read: dict[str, tuple[str, Report | None]] = {}  # so that each window is parsed once

    async def put(self, replica: str, report: Report) -> None:
        """Writes the last window of `replica`."""
        async with self._redis.pipeline(transaction=False) as batch:
            batch.hset(self._keys.reports, replica, to_json(report))
            batch.expire(self._keys.reports, LAPSE_S)
            await batch.execute()

    async def all(self) -> dict[str, Report]:
        """The last window of each replica; what is no report is left out."""
        entries: Any = await self._redis.hgetall(self._keys.reports)
        before, self._read = self._read, {}
        for name, body in entries.items():
            known = before.get(name)
            self._read[name] = known if known and known[0] == body else (body, _read(name, body))
        return {name: report for name, (_, report) in self._read.items() if report is not None}

    async def remove(self, replicas: Iterable[str]) -> None:
        """Removes those of replicas that are gone."""
        names = list(replicas)
        if names:
            await self._redis.hdel(self._keys.reports, *names)
