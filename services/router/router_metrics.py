"""What a scrape reads off a router: nothing is counted between scrapes that is not known anyway."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshwork.router.v1 import router_pb2
from meshwork.xds.ads import AdsService
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.snapshot import ORDER, kind
from services.router.mesh_view import MeshView
from services.router.model_versions import serving
from services.router.planner import GATEWAY
from services.router.registry import Registry
from services.router.traces import TraceStore


class RouterState(Collector):
    """The metrics of one router.

    Read on the event loop: what it reads changes there.
    """

    def __init__(
        self, cache: SnapshotCache, ads: AdsService, registry: Registry, view: MeshView, spans: TraceStore
    ) -> None:
        self._cache = cache
        self._ads = ads
        self._registry = registry
        self._view = view
        self._spans = spans

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from self._discovery()
        yield from self._replicas()
        yield _gauge(
            "meshwork_redis_connected", "0 while what is known may be old.", float(not self._view.stale)
        )
        yield _gauge(
            "meshwork_leader", "1 while this router runs the loops of the mesh.", float(self._view.leads)
        )
        yield _count(
            "meshwork_spans_dropped", "Spans that came faster than they could be taken.", self._spans.dropped
        )
        yield _count("meshwork_traces_let_go", "Ordinary traces that were not kept.", self._spans.let_go)

    def _discovery(self) -> Iterator[Metric]:
        acks, nacks = self._ads.replies
        yield _gauge("meshwork_snapshot_generation", "Snapshots since the start.", self._cache.generation)
        yield _gauge(
            "meshwork_snapshot_age_seconds",
            "Since it last changed.",
            max(0.0, time.time() - self._cache.since),
        )
        sizes = GaugeMetricFamily("meshwork_snapshot_resources", "In the snapshot.", labels=["type"])
        for url in ORDER:
            sizes.add_metric([kind(url)], len(self._cache.snapshot.resources(url)))
        yield sizes
        clients = GaugeMetricFamily("meshwork_xds_clients", "That are connected.", labels=["kind"])
        behind = GaugeMetricFamily(
            "meshwork_xds_clients_behind", "That lack some of the snapshot.", labels=["kind"]
        )
        for name, gateway in (("gateway", True), ("grpc", False)):
            own = [each for each in self._ads.clients if (each.node.cluster == GATEWAY) is gateway]
            clients.add_metric([name], len(own))
            behind.add_metric([name], sum(each.generation < self._cache.generation for each in own))
        yield clients
        yield behind
        yield _count("meshwork_xds_acks", "Responses that clients took.", acks)
        yield _count("meshwork_xds_nacks", "Responses that clients rejected.", nacks)

    def _replicas(self) -> Iterator[Metric]:
        there = list(self._registry.replicas.values())
        counts = Counter((each.service, each.state) for each in there)
        found = GaugeMetricFamily(
            "meshwork_replicas", "By what their leases say.", labels=["service", "state"]
        )
        for service in sorted({each.service for each in there}):
            for name, state in router_pb2.ReplicaState.items():
                if state:
                    short = name.removeprefix("REPLICA_STATE_").lower()
                    found.add_metric([service, short], counts[service, state])
        yield found
        models = GaugeMetricFamily(
            "meshwork_model_replicas", "Replicas that take its calls.", labels=["service", "model", "version"]
        )
        for each, at in serving(there).items():
            models.add_metric([each.service, each.model, each.version], len(at))
        yield models
        yield _gauge("meshwork_ejected_replicas", "Kept from traffic.", len(self._view.ejected))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _count(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)
