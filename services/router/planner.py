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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshwork.names import MODEL_HEADER, header_value
from meshwork.router.v1 import router_pb2
from meshwork.xds.messages import Values
from meshwork.xds.resources import Balancing, cluster, endpoints, split_address
from meshwork.xds.routes import Retry, RouteSpec, api_listener, routes
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import inference_routes
from services.router.contract import Service
from services.router.model_versions import ModelVersion, default_models, live_versions, serving

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
        policies: how calls are spread over the replicas of a service, where it is not by their load.
        gateway: the gateway's listener, or None if there is no gateway.
        gateway_filters: configuration of the gateway's HTTP filters, by name, for all routes.
    """

    services: Mapping[str, Service]
    routers: tuple[str, ...]
    policies: Mapping[str, Balancing] = field(default_factory=dict)
    gateway: Resource | None = None
    gateway_filters: Mapping[str, Values] | None = None

    def balancing(self, service: str) -> Balancing:
        """How calls are spread over the replicas of a service."""
        return self.policies.get(service, "weighted_round_robin")


def plan(
    replicas: Iterable[router_pb2.Replica], settings: PlanSettings, *, complete: bool = True
) -> Snapshot:
    """The snapshot for these leases."""
    table = serving(_reachable(replicas))
    clusters = {each.cluster: tuple(replica.address for replica in at) for each, at in table.items()}
    clusters[ROUTER] = settings.routers
    by_http = inference_routes.http_hosts(table)
    by_service = {
        service.name: list(_service_routes(service, table))
        for service in settings.services.values()
        if service.domain
    }
    at_router = list(_router_routes(settings.services.values()))
    by_name = {**by_service, ROUTER: at_router}
    listeners = [api_listener(name) for name in by_name]
    tables = [routes(name, specs) for name, specs in by_name.items()]
    if settings.gateway is not None:
        listeners.append(settings.gateway)
        everything = [spec for specs in by_service.values() for spec in specs] + at_router
        everything += inference_routes.grpc_routes(table, ROUTER)
        everything += inference_routes.rest_routes(table, by_http)
        tables.append(routes(GATEWAY, [*everything, *_edge_routes()], settings.gateway_filters))
    return Snapshot(
        {
            CLUSTER: [
                *(cluster(name, settings.balancing(name.partition("/")[0])) for name in clusters),
                *(
                    cluster(inference_routes.http_cluster(each), settings.balancing(each.service), "http")
                    for each in by_http
                ),
            ],
            ENDPOINTS: [
                *(endpoints(name, addresses) for name, addresses in clusters.items()),
                *(endpoints(inference_routes.http_cluster(each), *hosts) for each, hosts in by_http.items()),
            ],
            LISTENER: listeners,
            ROUTES: tables,
        },
        complete=complete,
    )


def _reachable(replicas: Iterable[router_pb2.Replica]) -> Iterator[router_pb2.Replica]:
    for replica in replicas:
        try:
            split_address(replica.address)
        except ValueError:
            continue  # one replica's nonsense must not cost the others their snapshot
        yield replica


def _service_routes(
    service: Service, table: Mapping[ModelVersion, list[router_pb2.Replica]]
) -> Iterator[RouteSpec]:
    live = live_versions(table, service.name)
    named = {each.name: each for each in table if each.service == service.name} | live
    defaults = default_models(table, service.name)
    for method in service.methods.values():
        retry = Retry.SAFE if method.changes_nothing else Retry.UNSENT
        if method.name in defaults:
            yield RouteSpec(
                name=service.name,
                path=method.path,
                header=MODEL_HEADER,
                value=None,
                cluster=defaults[method.name].cluster,
                retry=retry,
            )
        if not method.changes_nothing:
            yield from _model_routes(service, method.path, named, retry)
    yield from _model_routes(service, f"/{service.full_name}/", named, Retry.SAFE)
    yield RouteSpec(name=service.name, path=f"/{service.full_name}/", cluster=ROUTER)


def _model_routes(
    service: Service, path: str, named: Mapping[str, ModelVersion], retry: Retry
) -> Iterator[RouteSpec]:
    for name, each in sorted(named.items()):
        yield RouteSpec(
            name=service.name,
            path=path,
            header=MODEL_HEADER,
            value=header_value(name),
            cluster=each.cluster,
            retry=retry,
        )


def _router_routes(services: Iterable[Service]) -> Iterator[RouteSpec]:
    names = (*(service.full_name for service in services if not service.domain), *_COMMON)
    for name in names:
        yield RouteSpec(name=ROUTER, path=f"/{name}/", cluster=ROUTER)


def _edge_routes() -> Iterator[RouteSpec]:
    yield RouteSpec(name="healthz", path="/healthz", status=200, body="ok\n")
    yield RouteSpec(name="admin", path=_ADMIN_PATH, status=404, body=_NO_ADMIN)
    # Any other gRPC method: the router says in gRPC that there is none.
    yield RouteSpec(name=ROUTER, path="/", grpc_only=True, cluster=ROUTER)
    yield RouteSpec(name="unknown", path="/", status=404, body=_UNKNOWN_PATH)
