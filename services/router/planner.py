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
from meshwork.xds.routes import RETRIES, Retry, RouteSpec, api_listener, routes
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import inference_routes
from services.router.contract import Method, Service
from services.router.ejection import NOBODY, Ejected, admitted
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
    """

    services: Mapping[str, Service]
    routers: tuple[str, ...]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    gateways: tuple[Resource, ...] = ()
    gateway_filters: Mapping[str, Values] | None = None

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
    by_service = {
        service.name: list(service_routes(service, table, default_models(table, service.name), policies))
        for service in settings.services.values()
        if service.domain
    }
    clusters, hosts_of = fixed_resources(settings)
    for each, at in table.items():
        made = model_resources(each, at, policies[each])
        clusters += made[CLUSTER]
        hosts_of += made[ENDPOINTS]
    by_http = inference_routes.http_replicas(table)
    tables = [routes(name, specs) for name, specs in by_service.items()]
    tables += router_tables(by_service, table, by_http, policies, settings)
    listeners = [api_listener(name) for name in (*by_service, ROUTER)]
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


def router_tables(
    by_service: Mapping[str, Sequence[RouteSpec]],
    versions: Collection[ModelVersion],
    by_http: Container[ModelVersion],
    policies: Mapping[ModelVersion, Policy],
    settings: PlanSettings,
) -> list[Resource]:
    """The routes of the router itself and, where there is one, of the gateway: to all there is."""
    at_router = list(_router_routes(settings.services.values()))
    tables = [routes(ROUTER, at_router)]
    if settings.gateways:
        everything = _by_header([spec for specs in by_service.values() for spec in specs], settings)
        everything += at_router
        everything += inference_routes.grpc_routes(versions, ROUTER, policies)
        everything += inference_routes.rest_routes(versions, by_http, policies)
        everything += _edge_routes()
        tables.append(routes(GATEWAY, everything, settings.gateway_filters, default_retries=RETRIES))
    return tables


def _by_header(specs: Sequence[RouteSpec], settings: PlanSettings) -> list[RouteSpec]:
    """Those first that match only without a model's header, as every call is when it comes in.

    Envoy tries routes in their order: a call must not pass those of thousands of models before its model
    was read, nor if it names none.
    """
    plain: list[RouteSpec] = []
    others: list[RouteSpec] = []
    for spec in specs:
        (plain if spec.header and spec.value is None else others).append(spec)
    for service in settings.services.values():
        if service.domain:
            path, name = f"/{service.full_name}/", service.name
            plain.append(
                RouteSpec(name=name, path=path, header=MODEL_HEADER, cluster=ROUTER, retry=Retry.LOST)
            )
    return plain + others


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
    """The routes to the model versions of a service; `defaults`: by method, for who names none."""
    live = live_versions(versions, service.name)
    named = {each.name: each for each in versions if each.service == service.name} | live
    hedged = any(policies[each].hedge_after_ms for each in named.values())
    for method in service.methods.values():
        default = defaults.get(method.name)
        if default is not None:
            yield from _method_routes(method, None, default, policies[default])
        # The route of all methods is for those that may be repeated, and hedges: the others have their own.
        if not method.changes_nothing or (hedged and method.streams):
            for name, each in sorted(named.items()):
                yield from _method_routes(method, name, each, policies[each])
    for name, each in sorted(named.items()):
        yield model_route(each, f"/{service.full_name}/", name, policies[each])
    yield RouteSpec(name=service.name, path=f"/{service.full_name}/", cluster=ROUTER, retry=Retry.LOST)


def _method_routes(
    method: Method, name: str | None, each: ModelVersion, policy: Policy
) -> Iterator[RouteSpec]:
    """The routes of calls of one method that name a model so, or None for those that name none."""
    whole = model_route(each, method.path, name, policy)
    if method.changes_nothing:
        yield replace(whole, hedge_after_s=0.0) if method.streams else whole
        return
    if method.remembers:
        yield replace(whole, hedge_after_s=0.0, once_only=True)
    yield replace(whole, hedge_after_s=0.0, retry=Retry.UNSENT)


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
