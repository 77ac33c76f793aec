"""From what replicas say of themselves to what Envoy and gRPC clients are told: a pure function.

::

    lease READY with model version READY  ->  endpoint of the cluster SERVICE/MODEL@VERSION
    ... UNLOADED, and nowhere READY       ->  the same: the first call loads it
    no `x-meshwork-model`                 ->  the default model of the method
    `x-meshwork-model: MODEL`             ->  its highest version
    `x-meshwork-model: MODEL@VERSION`     ->  that version
    anything else of a service            ->  the router itself, which says what there is

Leases and settings that are the same give a snapshot of the same version, in every router.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshwork.names import MODEL_HEADER
from meshwork.policy import Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.messages import Values
from meshwork.xds.resources import Host, cluster, endpoints, split_address
from meshwork.xds.routes import MODEL_FILTER, RETRIES, Retry, RouteSpec, api_listener, routes
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import inference_routes
from services.router.contract import Method, Service
from services.router.ejection import NOBODY, Ejected, admitted
from services.router.lookup import Lookup
from services.router.model_versions import ModelVersion, default_models, live_versions, serving
from services.router.policy import hosts, model_route, options, policy_of

ROUTER = "router"
GATEWAY = "gateway"
# Served by the router for all of the mesh.
_COMMON = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
_ADMIN_PATH = "/meshwork.admin.v1.AdminService/"
_NO_ADMIN = "AdminService is served at a router's own address, not at the gateway"
_UNKNOWN_PATH = (
    "no such path, or not by this method; the paths of the mesh begin with /v1/ or /v2/, "
    "GET /v1/services lists its services"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """What the plan needs to know besides the leases.

    Attributes:
        services: the contract.
        routers: `host:port` of the routers that answer what no replica can.
        policies: by service, how its calls are balanced and how they survive, where that was said.
        gateways: the listener of each gateway.
        gateway_filters: configuration of the gateways' HTTP filters, by name, for all routes.
        max_request_bytes: how large a request may be at the gateways.
    """

    services: Mapping[str, Service]
    routers: tuple[str, ...]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    gateways: tuple[Resource, ...] = ()
    gateway_filters: Mapping[str, Values] | None = None
    max_request_bytes: int = 64 << 20

    def policy(self, each: ModelVersion) -> Policy:
        """The policy of a model version."""
        return policy_of(self.policies, each)


def plan(
    replicas: Iterable[router_pb2.Replica],
    settings: PlanSettings,
    *,
    complete: bool = True,
    ejected: Ejected = NOBODY,
) -> Snapshot:
    """The snapshot for these leases, with the `ejected` replicas out of it as far as may be.

    The router's own (`incremental.Planner`) must always be the same as this one.
    """
    everyone = serving(found for replica in replicas if (found := reachable(replica)) is not None)
    table = {each: admitted(at, ejected) for each, at in everyone.items()}
    policies = {each: settings.policy(each) for each in table}
    domains = [service for service in settings.services.values() if service.domain]
    defaults = {service.name: default_models(table, service.name) for service in domains}
    lookup = Lookup(table, policies, settings.policies)
    clusters, hosts_of = fixed_resources(settings)
    for each, at in table.items():
        made = model_resources(each, at, policies[each])
        clusters += made[CLUSTER]
        hosts_of += made[ENDPOINTS]
    tables = [
        routes(service.name, list(service_routes(service, table, defaults[service.name], policies)))
        for service in domains
    ]
    tables.append(routes(ROUTER, list(_router_routes(settings.services.values()))))
    if settings.gateways:
        at_edge = [
            spec
            for service in domains
            for spec in gateway_routes(
                service, table, defaults[service.name], policies, lookup, settings.max_request_bytes
            )
        ]
        by_http = inference_routes.http_replicas(table)
        tables.append(gateway_table(at_edge, lookup, by_http, policies, settings))
    listeners = [api_listener(name) for name in (*defaults, ROUTER)]
    listeners += settings.gateways
    return Snapshot(
        {CLUSTER: clusters, ENDPOINTS: hosts_of, LISTENER: listeners, ROUTES: tables}, complete=complete
    )


def fixed_resources(settings: PlanSettings) -> tuple[list[Resource], list[Resource]]:
    """The clusters and the endpoints that are there whatever the leases say."""
    return [cluster(ROUTER)], [endpoints(ROUTER, tuple(Host(address=each) for each in settings.routers))]


def model_resources(
    each: ModelVersion, at: Sequence[router_pb2.Replica], policy: Policy
) -> dict[str, list[Resource]]:
    """The clusters and the endpoints of one model version and the replicas that take its calls."""
    clusters = [cluster(each.cluster, options(policy))]
    found = [endpoints(each.cluster, hosts(each, at, policy))]
    by_http = [replica for replica in at if replica.http_address]
    if by_http:
        name = inference_routes.http_cluster(each)
        clusters.append(cluster(name, options(policy), "http"))
        found.append(endpoints(name, hosts(each, by_http, policy, http=True)))
    return {CLUSTER: clusters, ENDPOINTS: found}


def gateway_table(
    at_edge: Sequence[RouteSpec],
    lookup: Lookup,
    by_http: Container[ModelVersion],
    policies: Mapping[ModelVersion, Policy],
    settings: PlanSettings,
) -> Resource:
    """The routes of the gateways: to all there is.

    Args:
        at_edge: the routes of each service, in turn.
        by_http: the versions that serve REST.
    """
    services = settings.services.values()
    everything = _by_header(at_edge, settings)
    everything += _router_routes(services)
    everything += inference_routes.grpc_routes(lookup, ROUTER, policies)
    everything += inference_routes.rest_routes(lookup, by_http, policies)
    everything += _edge_routes()
    filters = {**(settings.gateway_filters or {}), MODEL_FILTER: lookup.script(by_http, services)}
    return routes(GATEWAY, everything, filters, default_retries=RETRIES)


def _by_header(specs: Sequence[RouteSpec], settings: PlanSettings) -> list[RouteSpec]:
    """Those first that match only without a model's header, as every call is when it comes in.

    Envoy tries routes in their order: a call must not pass those of thousands of models before its model
    was read, nor if it names none.
    """
    plain: list[RouteSpec] = []
    others: list[RouteSpec] = []
    for spec in specs:
        (plain if spec.header and spec.value is None else others).append(spec)
    domains = (service for service in settings.services.values() if service.domain)
    return [*plain, *(replace(_missing(service), header=MODEL_HEADER) for service in domains), *others]


def reachable(replica: router_pb2.Replica) -> router_pb2.Replica | None:
    """Without what can't be an address: one replica's nonsense must not cost the others their snapshot."""
    if not _is_address(replica.address):
        return None
    if not replica.http_address or _is_address(replica.http_address):
        return replica
    plain = router_pb2.Replica()
    plain.CopyFrom(replica)
    plain.ClearField("http_address")
    return plain


def _is_address(text: str) -> bool:
    try:
        split_address(text)
    except ValueError:
        return False
    return True


def service_routes(
    service: Service,
    versions: Collection[ModelVersion],
    defaults: Mapping[str, ModelVersion],
    policies: Mapping[ModelVersion, Policy],
) -> Iterator[RouteSpec]:
    """The routes of gRPC clients to the model versions of a service.

    Args:
        defaults: by method, for who names no model.
    """
    yield from _default_routes(service, defaults, policies)
    yield from _named_routes(service, _names(service, versions), policies)
    yield _missing(service)


def gateway_routes(
    service: Service,
    versions: Collection[ModelVersion],
    defaults: Mapping[str, ModelVersion],
    policies: Mapping[ModelVersion, Policy],
    lookup: Lookup,
    max_request_bytes: int,
) -> Iterator[RouteSpec]:
    """The same at the gateway, which looks models up.

    Where a service has but one model, and its calls are not hashed by a field, requests of one message go
    on unread: another model, should one be named, is one that the replicas say they have not.
    """
    names = _names(service, versions)
    alone = len(set(names.values())) == 1 and not lookup.reads(service.name)
    yield from _default_routes(service, defaults, policies, max_request_bytes if alone else 0)
    found = lookup.found(service.name, f"/{service.full_name}/")
    for method in _apart(service, hedged=bool(found.hedge_after_s)):
        yield from _method_routes(method, replace(found, path=method.path))
    yield found
    yield from _named_routes(service, lookup.unusual(names), policies)
    yield _missing(service)


def _names(service: Service, versions: Collection[ModelVersion]) -> dict[str, ModelVersion]:
    named = {each.name: each for each in versions if each.service == service.name}
    return named | live_versions(versions, service.name)


def _default_routes(
    service: Service,
    defaults: Mapping[str, ModelVersion],
    policies: Mapping[ModelVersion, Policy],
    unread_bytes: int = 0,
) -> Iterator[RouteSpec]:
    for method in service.methods.values():
        default = defaults.get(method.name)
        if default is not None:
            whole = model_route(default, method.path, None, policies[default])
            held = 0 if method.streams else unread_bytes
            yield from _method_routes(method, replace(whole, unread_bytes=held) if held else whole)


def _named_routes(
    service: Service, names: Mapping[str, ModelVersion], policies: Mapping[ModelVersion, Policy]
) -> Iterator[RouteSpec]:
    hedged = any(policies[each].hedge_after_ms for each in names.values())
    for method in _apart(service, hedged=hedged):
        for name, each in sorted(names.items()):
            yield from _method_routes(method, model_route(each, method.path, name, policies[each]))
    for name, each in sorted(names.items()):
        yield model_route(each, f"/{service.full_name}/", name, policies[each])


def _apart(service: Service, *, hedged: bool) -> Iterator[Method]:
    """The methods with routes of their own: that of all is for those that may be repeated, and hedges."""
    for method in service.methods.values():
        if not method.changes_nothing or (hedged and method.streams):
            yield method


def _method_routes(method: Method, whole: RouteSpec) -> Iterator[RouteSpec]:
    """The routes of calls of one method; `whole`, if it were one of those that may be repeated."""
    if method.changes_nothing:
        yield replace(whole, hedge_after_s=0.0) if method.streams else whole
        return
    if method.remembers:
        yield replace(whole, hedge_after_s=0.0, once_only=True)
    yield replace(whole, hedge_after_s=0.0, retry=Retry.UNSENT)


def _missing(service: Service) -> RouteSpec:
    """The route of calls that no replica is for."""
    return RouteSpec(name=service.name, path=f"/{service.full_name}/", cluster=ROUTER, retry=Retry.LOST)


def _router_routes(services: Iterable[Service]) -> Iterator[RouteSpec]:
    names = (*(service.full_name for service in services if not service.domain), *_COMMON)
    for name in names:
        yield RouteSpec(name=ROUTER, path=f"/{name}/", cluster=ROUTER, retry=Retry.LOST)


def _edge_routes() -> Iterator[RouteSpec]:
    yield RouteSpec(name="healthz", path="/healthz", status=200, body="ok\n")
    yield RouteSpec(name="admin", path=_ADMIN_PATH, status=404, body=_NO_ADMIN)
    # Any other gRPC method: the router says in gRPC that there is none.
    yield RouteSpec(name=ROUTER, path="/", grpc_only=True, cluster=ROUTER, retry=Retry.LOST)
    yield RouteSpec(name="unknown", path="/", status=404, body=_UNKNOWN_PATH)
