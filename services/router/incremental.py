"""The plan, made anew only where leases changed; always the same as `planner.plan` makes from nothing.

::

    a lease changed                              ->  the clusters and endpoints of its model versions
    a model version came or went, or serves REST ->  the routes of its service, and of the gateway
    another model is the default of a method     ->  the same

The routes of a service know nothing of replicas, so that the usual change, a replica that comes, goes
or gets another weight, is a few kilobytes of endpoints, however many models there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from meshwork.policy import Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.routes import RouteSpec, routes
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, ROUTES, Resource, Snapshot
from services.router.ejection import NOBODY, Ejected, admitted
from services.router.inference_routes import http_cluster
from services.router.lookup import Lookup
from services.router.model_versions import ModelVersion, elected, live_versions, votes
from services.router.planner import (
    GATEWAY,
    PlanSettings,
    gateway_routes,
    gateway_table,
    model_resources,
    plan,
    reachable,
    service_routes,
)

Replicas = Mapping[str, router_pb2.Replica]
_Counts = dict[ModelVersion, dict[str, int]]


class _Index:
    """Which replicas take calls for which model version, kept as they change."""

    def __init__(self) -> None:
        self._replicas: dict[str, router_pb2.Replica] = {}
        # How often each replica, by name, says that it has the version ready, or loads it when called.
        self._ready: _Counts = defaultdict(dict)
        self._loads: _Counts = defaultdict(dict)

    def put(self, name: str, replica: router_pb2.Replica | None) -> set[ModelVersion]:
        """Takes in what a replica is now, or that it is no more; gives the model versions it touches."""
        before = self._replicas.pop(name, None)
        touched = set()
        for counts, each in self._entries(before):
            counts[each].pop(name, None)
            touched.add(each)
        if replica is not None:
            self._replicas[name] = replica
        for counts, each in self._entries(replica):
            counts[each][name] = counts[each].get(name, 0) + 1
            touched.add(each)
        for each in touched:
            for counts in (self._ready, self._loads):
                if each in counts and not counts[each]:
                    del counts[each]
        return touched

    def _entries(self, replica: router_pb2.Replica | None) -> Iterator[tuple[_Counts, ModelVersion]]:
        if replica is None or replica.state != router_pb2.REPLICA_STATE_READY:
            return
        for model in replica.models:
            each = ModelVersion(replica.service, model.name, model.version)
            if model.state == router_pb2.MODEL_STATE_READY:
                yield self._ready, each
            elif model.state == router_pb2.MODEL_STATE_UNLOADED:
                yield self._loads, each

    def at(self, each: ModelVersion) -> list[router_pb2.Replica]:
        """The replicas that take its calls, by name; empty if there is none."""
        counts = self._ready.get(each) or self._loads.get(each) or {}
        return [self._replicas[name] for name in sorted(counts) for _ in range(counts[name])]


class Planner:
    """Keeps a snapshot up to date with the leases.

    Attributes:
        snapshot: as of the last update.
    """

    def __init__(self, settings: PlanSettings) -> None:
        self._settings = settings
        self._index = _Index()
        self._ejected = NOBODY
        self._policies: dict[ModelVersion, Policy] = {}
        self._votes: dict[str, dict[ModelVersion, Counter[str]]] = defaultdict(dict)
        self._live: dict[str, dict[str, ModelVersion]] = {}
        self._defaults: dict[str, dict[str, ModelVersion]] = {}
        self._by_http: set[ModelVersion] = set()
        self._domains = {each.name: each for each in settings.services.values() if each.domain}
        nothing = Lookup((), {}, settings.policies)
        self._at_edge: dict[str, list[RouteSpec]] = {
            name: list(gateway_routes(service, (), {}, {}, nothing, 0))
            for name, service in self._domains.items()
        }
        self.snapshot = plan((), settings, complete=False)

    @property
    def serving(self) -> set[str]:
        """The services of which there is a model version that takes calls."""
        return {service for service, cast in self._votes.items() if cast}

    def update(
        self,
        names: Iterable[str],
        replicas: Replicas,
        *,
        complete: bool = True,
        ejected: Ejected = NOBODY,
    ) -> Snapshot:
        """The snapshot for `replicas`, of which those of `names` are not, or not ejected, as they were."""
        self._ejected = ejected
        touched: set[ModelVersion] = set()
        for name in names:
            replica = replicas.get(name)
            touched |= self._index.put(name, None if replica is None else reachable(replica))
        changes: dict[str, dict[str, Resource | None]] = {CLUSTER: {}, ENDPOINTS: {}, ROUTES: {}}
        rerouted: set[str] = set()
        for each in touched:
            if self._replan(each, changes):
                rerouted.add(each.service)
        for service in {each.service for each in touched}:
            if service in rerouted:
                self._live[service] = live_versions(self._votes[service], service)
            defaults = elected(self._votes[service], self._live.get(service, {}))
            if defaults != self._defaults.get(service, {}):
                self._defaults[service] = defaults
                rerouted.add(service)
        if rerouted:
            self._reroute(rerouted, changes[ROUTES])
        self.snapshot = self.snapshot.replace(changes, complete=complete)
        return self.snapshot

    def _replan(self, each: ModelVersion, changes: dict[str, dict[str, Resource | None]]) -> bool:
        """Plans one model version anew; whether it came, went, or began or ceased to serve REST."""
        at = admitted(self._index.at(each), self._ejected)
        cast, was_http = self._votes[each.service], each in self._by_http
        found: dict[str, list[Resource]] = {}
        was_there = each in cast
        if at:
            policy = self._policies.setdefault(each, self._settings.policy(each))
            found = model_resources(each, at, policy)
            cast[each] = votes(each, at)
        else:
            cast.pop(each, None)
            self._policies.pop(each, None)
        for type_url in (CLUSTER, ENDPOINTS):
            changes[type_url] |= {each.cluster: None, http_cluster(each): None}
            changes[type_url] |= {resource.name: resource for resource in found.get(type_url, ())}
        is_http = any(replica.http_address for replica in at)
        (self._by_http.add if is_http else self._by_http.discard)(each)
        return bool(at) != was_there or is_http != was_http

    def _reroute(self, services: set[str], changes: dict[str, Resource | None]) -> None:
        lookup = Lookup(sorted(self._policies), self._policies, self._settings.policies)
        for name in services & self._domains.keys():
            service, cast, defaults = self._domains[name], self._votes[name], self._defaults.get(name, {})
            changes[name] = routes(name, list(service_routes(service, cast, defaults, self._policies)))
            most = self._settings.max_request_bytes
            self._at_edge[name] = list(gateway_routes(service, cast, defaults, self._policies, lookup, most))
        if self._settings.gateways:
            at_edge = [spec for specs in self._at_edge.values() for spec in specs]
            changes[GATEWAY] = gateway_table(at_edge, lookup, self._by_http, self._policies, self._settings)
