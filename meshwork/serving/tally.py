"""Counts each call and its time, and says of a scrape what the replica is doing.

    meshwork_calls_total{service, method, model, version, code}
    meshwork_call_seconds{service, method, model, version}   its buckets' exemplars name sampled traces

A call's model is the one that the table of models found for it, so labels are names of models that the
replica has; "" where the call meant none of them. What stands still between calls (leases, queues,
devices) costs nothing until Prometheus asks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import grpc
from opentelemetry import trace
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshwork.router.v1 import router_pb2
from meshwork.rpc import OUR_FAULT, Metadata
from meshwork.serving.load import ORCA_TRAILER, LoadMeter, Watched
from meshwork.serving.roster import Entry
from meshwork.slo import CALL_BOUNDS_S

CALLS = Counter(
    "meshwork_calls", "Calls that were answered.", ("service", "method", "model", "version", "code")
)
CALL_SECONDS = Histogram(
    "meshwork_call_seconds",
    "Time of a call in its replica; of a stream, until its end.",
    ("service", "method", "model", "version"),
    buckets=CALL_BOUNDS_S,
)

EXEMPLAR_S = 1.0  # a scrape keeps one exemplar of a bucket, and each costs a tenth of a light call
Key = tuple[str, str, str, grpc.StatusCode]  # method, model, version, code


@dataclass(slots=True)
class _Meant:
    """Which model a call means."""

    model: str = ""
    version: str = ""


_meant: ContextVar[_Meant | None] = ContextVar("meant", default=None)


def means(entry: Entry) -> None:
    """Says that the call that is being answered means `entry`."""
    call = _meant.get()
    if call is not None:
        call.model, call.version = entry.card.name, entry.card.version


class CallTally:
    """Is told of each call: counts it, feeds the load meter, and puts its report behind the answer.

    Attributes:
        begun: calls that came in so far.
    """

    def __init__(self, service: str, load: LoadMeter) -> None:
        self._service = service
        self._load = load
        self.begun = 0
        self._children: dict[Key, tuple[Counter, Histogram]] = {}
        self._shown: dict[Key, tuple[float, float]] = {}  # of the last exemplar: when it was, and its seconds

    def begins(self) -> None:
        """A call came in."""
        self.begun += 1
        self._load.in_flight += 1
        _meant.set(_Meant())

    def ends(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """It was answered."""
        self._load.in_flight -= 1
        self._load.answered(failed=code in OUR_FAULT)
        meant = _meant.get() or _Meant()
        key = method, meant.model, meant.version, code
        children = self._children.get(key) or self._made(key)
        children[0].inc()
        children[1].observe(seconds, self._exemplar(key, seconds))

    def _exemplar(self, key: Key, seconds: float) -> dict[str, str] | None:
        """The call's trace, if it took longer than those that were shown within EXEMPLAR_S."""
        span = trace.get_current_span().get_span_context()
        if not span.trace_flags.sampled:
            return None
        now = time.monotonic()
        shown, longest = self._shown.get(key, (-math.inf, 0.0))
        if now < shown + EXEMPLAR_S and seconds <= longest:
            return None
        self._shown[key] = now, seconds
        return {"trace_id": f"{span.trace_id:032x}"}

    def _made(self, key: Key) -> tuple[Counter, Histogram]:
        method, model, version, code = key
        made = self._children[key] = (
            CALLS.labels(self._service, method, model, version, code.name),
            CALL_SECONDS.labels(self._service, method, model, version),
        )
        return made

    def trailer(self) -> Metadata:
        """The load report."""
        return ((ORCA_TRAILER, self._load.report()),)


class ReplicaState(Collector):
    """What a scrape reads off a replica.

    Args:
        replica: what its lease says.
        renewed: when its lease was renewed last, on the monotonic clock.
    """

    def __init__(
        self,
        replica: router_pb2.Replica,
        renewed: Callable[[], float],
        load: LoadMeter,
        entries: Callable[[], Iterable[Entry]],
    ) -> None:
        self._replica = replica
        self._renewed = renewed
        self._load = load
        self._entries = entries

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        age_s = time.monotonic() - self._renewed()
        yield GaugeMetricFamily("meshwork_lease_age_seconds", "Since Redis took the lease last.", age_s)
        state = GaugeMetricFamily(
            "meshwork_replica_state", "1 for the state that it is in.", labels=["state"]
        )
        for name, value in router_pb2.ReplicaState.items():
            if value:
                state.add_metric(
                    [name.removeprefix("REPLICA_STATE_").lower()], float(value == self._replica.state)
                )
        yield state
        yield GaugeMetricFamily(
            "meshwork_calls_in_flight", "Calls that are being answered.", self._load.in_flight
        )
        queued = GaugeMetricFamily(
            "meshwork_queued_items", "Items that wait for a device.", labels=["model", "version"]
        )
        loaded = GaugeMetricFamily("meshwork_model_loaded", "1 while in memory.", labels=["model", "version"])
        for entry in self._entries():
            labels, held = [entry.card.name, entry.card.version], entry.loaded
            loaded.add_metric(labels, float(held is not None))
            workers = () if held is None else (held, held.raw) if held.raw else (held,)
            queued.add_metric(labels, sum(each.workers[0].source.queued for each in workers))
        yield queued
        yield loaded
        busy = CounterMetricFamily(
            "meshwork_device_busy_seconds",
            "Time that a device worked; its rate is the share.",
            labels=["device"],
        )
        for name, seconds in sorted(_by_device(self._load.devices).items()):
            busy.add_metric([name], seconds)
        yield busy


def _by_device(devices: Iterable[Watched]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in devices:
        total[each.name] = total.get(each.name, 0.0) + each.busy_s
    return total
