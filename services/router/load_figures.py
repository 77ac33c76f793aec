"""From what replicas count (`/metrics`) to what the mesh's load is: pure functions.

Two scrapes of a replica, some seconds apart, give its rates; those of several replicas add up:

    rate  =  (count after - count before) / seconds between       a count that fell began anew, from 0
    quantile q  =  the bound below which a share q of the calls ended, linear within its bucket

A quantile is thus no finer than its bucket, as with Prometheus's `histogram_quantile`; beyond the last
bound it is that bound.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from prometheus_client.parser import text_string_to_metric_families

from meshwork.router.v1 import router_pb2
from meshwork.rpc import OUR_FAULT

CALLS, SECONDS = "meshwork_calls_total", "meshwork_call_seconds_bucket"
QUEUED, MEMORY, BUSY = (
    "meshwork_queued_items",
    "meshwork_device_memory_bytes",
    "meshwork_device_busy_seconds_total",
)
# Sums and counts of histograms, and where they go in Rates.
_MEANS = {
    "meshwork_batch_items_sum": "items",
    "meshwork_batch_items_count": "batches",
    "meshwork_compute_seconds_sum": "computed_s",
    "meshwork_compute_seconds_count": "computations",
    "meshwork_queue_seconds_sum": "waited_s",
    "meshwork_queue_seconds_count": "waits",
}
_READ = (CALLS, SECONDS, QUEUED, MEMORY, BUSY, *_MEANS)
_FAILED = frozenset(code.name for code in OUR_FAULT)

Key = tuple[str, str, str, str]  # metric; model as `name@version`, or its name alone; code or bound; device
Figures = Mapping[Key, float]


def read(text: str) -> dict[Key, float]:
    """What a replica's `/metrics` says of its load.

    Raises:
        ValueError: it is not in Prometheus's text format.
    """
    lines = "\n".join(line for line in text.splitlines() if line.startswith(_READ))
    found: defaultdict[Key, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families(lines + "\n"):
            for sample in family.samples:
                if sample.name in _READ and math.isfinite(sample.value) and sample.value >= 0:
                    labels = sample.labels
                    model, version = labels.get("model", ""), labels.get("version", "")
                    name = f"{model}@{version}" if model and version else model
                    detail = labels.get("code") or labels.get("le", "")
                    if sample.name == SECONDS:
                        float(detail)
                    found[sample.name, name, detail, labels.get("device", "")] += sample.value
    except (LookupError, TypeError, AttributeError) as error:  # the parser's, on what is no metric
        raise ValueError(str(error)) from error
    return found


@dataclass(slots=True)
class Rates:
    """What was done in each second, and what waits now; several add up."""

    calls: float = 0.0
    errors: float = 0.0
    items: float = 0.0  # in `batches`
    batches: float = 0.0
    computed_s: float = 0.0  # of `computations`
    computations: float = 0.0
    waited_s: float = 0.0  # in `waits`
    waits: float = 0.0
    busy_s: float = 0.0  # of `devices`
    devices: float = 0.0
    queued: float = 0.0
    memory_bytes: float = 0.0
    within: defaultdict[float, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # calls that took at most so many seconds

    def add(self, other: Rates) -> None:
        """Adds another's."""
        for each in fields(self):
            if each.name != "within":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for bound, count in other.within.items():
            self.within[bound] += count

    def load(self, service: str, replica: str = "", model: str = "") -> router_pb2.Load:
        """As a message."""
        return router_pb2.Load(
            service=service,
            replica=replica,
            model=model,
            calls_rps=self.calls,
            errors_rps=self.errors,
            p50_ms=quantile(self.within, 0.5) * 1e3,
            p99_ms=quantile(self.within, 0.99) * 1e3,
            queued_items=_whole(self.queued),
            queue_ms=_mean(self.waited_s, self.waits) * 1e3,
            batch_items=_mean(self.items, self.batches),
            compute_ms=_mean(self.computed_s, self.computations) * 1e3,
            busy_share=min(1.0, _mean(self.busy_s, self.devices)),
            memory_bytes=_whole(self.memory_bytes),
        )


def rates(before: Figures, after: Figures, seconds: float) -> dict[str, Rates]:
    """A replica's rates by model, and of all under "".

    Args:
        before: the earlier scrape; an empty one gives no rates, only what is now.
        seconds: between the two.
    """
    grown = {
        key: (value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value) / seconds
        for key, value in (after.items() if before and seconds > 0 else ())
    }
    # Calls that name no model the replica has are in its own sum only.
    names = {name for _, name, _, _ in after if "@" in name}
    devices = {device for metric, _, _, device in after if metric == BUSY}
    found = {name: Rates(devices=len(devices)) for name in ("", *sorted(names))}
    for key in after:
        metric, name, detail, _ = key
        rate = grown.get(key, 0.0)
        for each in {"", *_meant(name, names)}:
            own = found[each]
            if metric == CALLS:
                own.calls += rate
                own.errors += rate if detail in _FAILED else 0.0
            elif metric == SECONDS:
                own.within[float(detail)] += rate
            elif metric == QUEUED:
                own.queued += after[key]
            elif metric == MEMORY:
                own.memory_bytes += after[key]
            elif metric == BUSY:
                own.busy_s += rate
            else:
                field_name = _MEANS[metric]
                setattr(own, field_name, getattr(own, field_name) + rate)
    for name in names:
        found[name].busy_s = found[name].computed_s  # a device counts no work by model, the model does
    return found


def loads(by_replica: Mapping[str, tuple[str, Mapping[str, Rates]]]) -> list[router_pb2.Load]:
    """The loads of services, replicas and models.

    Args:
        by_replica: its service and its rates, by name.
    """
    total: defaultdict[tuple[str, str, str], Rates] = defaultdict(Rates)
    for replica, (service, models) in by_replica.items():
        for model, own in models.items():
            for key in ((service, "", model), (service, replica, model)):
                total[key].add(own)
    return [total[key].load(*key) for key in sorted(total)]


def quantile(within: Mapping[float, float], share: float) -> float:
    """The seconds within which `share` of the calls were answered.

    Args:
        within: by bound in seconds, the last one infinite, how many took at most that.
    """
    bounds = sorted(bound for bound in within if not math.isnan(bound))
    if not bounds or within[bounds[-1]] <= 0:
        return 0.0
    wanted = share * within[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if within[bound] >= wanted:
            if math.isinf(bound):
                return low
            part = within[bound] - below
            return low + (bound - low) * ((wanted - below) / part if part > 0 else 1.0)
        low, below = bound, within[bound]
    return low


def _meant(name: str, names: Iterable[str]) -> Iterable[str]:
    """The models that a label means: itself, or every version of a name that stands alone."""
    if not name or "@" in name:
        return (name,)
    return [each for each in names if each.partition("@")[0] == name]


def _mean(total: float, count: float) -> float:
    return total / count if count > 0 else 0.0


def _whole(value: float) -> int:
    return int(min(value, 2.0**62))
