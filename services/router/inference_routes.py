"""Where calls of the Open Inference Protocol go: to the service that has the model, by its name.

::

    MODEL, MODEL and its version                 ->  the first service, by name, that has it
    SERVICE/MODEL, SERVICE/MODEL and its version ->  that service's
    gRPC: by the request's model and version; REST: /v2/models/MODEL[/versions/VERSION]/...
    what names no model, or one that there is not ->  the router itself, or an answer at once

REST goes to the replicas' HTTP listeners, which are clusters of their own.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from meshwork.policy import Policy
from meshwork.router.v1 import router_pb2
from meshwork.serving.oip.repository import FULL_NAME, REST_SERVICE
from meshwork.xds.routes import Retry, RouteSpec
from services.router.lookup import REST_PREFIX, Lookup
from services.router.model_versions import ModelVersion
from services.router.policy import model_route

# Which fields of a request name the model and its version, by method.
MODEL_FIELDS = {
    **dict.fromkeys(("ModelInfer", "ModelStreamInfer"), ("model_name", "model_version")),
    **dict.fromkeys(("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"), ("name", "version")),
}

Table = Mapping[ModelVersion, list[router_pb2.Replica]]
_JSON = "application/json"
_HTTP = "http/"
_MOST_LISTED = 50


def http_cluster(each: ModelVersion) -> str:
    """The cluster of the HTTP listeners of the replicas that have it ready."""
    return f"{_HTTP}{each.cluster}"


def http_replicas(table: Table) -> dict[ModelVersion, list[router_pb2.Replica]]:
    """The replicas that serve REST, by model version."""
    found = {each: [replica for replica in at if replica.http_address] for each, at in table.items()}
    return {each: at for each, at in found.items() if at}


def grpc_routes(lookup: Lookup, router: str, policies: Mapping[ModelVersion, Policy]) -> Iterator[RouteSpec]:
    """Routes of the gRPC form; what no replica is for goes to the cluster `router`."""
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        yield RouteSpec(name=router, path=f"/{FULL_NAME}/{method}", cluster=router, retry=Retry.UNSENT)
    own, services = sorted(lookup.unusual(lookup.names).items()), lookup.services
    stream = f"/{FULL_NAME}/ModelStreamInfer"
    yield from (_of_stream(lookup.found(service, stream)) for service in services)
    yield from (_of_stream(model_route(each, stream, name, policies[each])) for name, each in own)
    yield from (lookup.found(service, f"/{FULL_NAME}/") for service in services)
    yield from (model_route(each, f"/{FULL_NAME}/", name, policies[each]) for name, each in own)
    for service in (FULL_NAME, REST_SERVICE):
        yield RouteSpec(name=router, path=f"/{service}/", cluster=router, retry=Retry.LOST)


def rest_routes(
    lookup: Lookup, by_http: Container[ModelVersion], policies: Mapping[ModelVersion, Policy]
) -> Iterator[RouteSpec]:
    """Routes of the REST form to the models in `by_http`.

    The index and the server's metadata need none: they are transcoded to gRPC before.
    """
    for service in lookup.services:
        yield lookup.found(service, REST_PREFIX, _HTTP)
    by_name = {name: each for name, each in lookup.names.items() if each in by_http}
    own = lookup.unusual(by_name)
    # A path that says more comes first: `vision/digits` before a model `vision`, versions before none.
    for name, each in sorted(own.items(), key=lambda entry: (-len(_path(entry[0])), entry[0])):
        yield _of_rest(model_route(each, _path(name), None, policies[each]), http_cluster(each))
    yield RouteSpec(name="health", path="/v2/health/live", body='{"live":true}', content_type=_JSON)
    ready = RouteSpec(name="health", path="/v2/health/ready", body='{"ready":true}', content_type=_JSON)
    unready = RouteSpec(name="health", path="/v2/health/ready", status=503, body="no model is ready")
    yield ready if lookup.names else unready
    models = [name for name in sorted(by_name) if "/" not in name and "@" not in name]
    shown = ", ".join(models[:_MOST_LISTED]) + (", ..." if len(models) > _MOST_LISTED else "")
    missing = f"no model of that name and version serves REST; there are: {shown or 'none'}"
    yield RouteSpec(name="unknown model", path=REST_PREFIX, status=404, body=missing)


@lru_cache(maxsize=65536)
def _of_stream(whole: RouteSpec) -> RouteSpec:
    return replace(whole, retry=Retry.UNSENT, hedge_after_s=0.0)


@lru_cache(maxsize=65536)
def _of_rest(whole: RouteSpec, cluster: str) -> RouteSpec:
    return replace(whole, header="", below=True, cluster=cluster)


def _path(name: str) -> str:
    model, _, version = name.partition("@")
    return f"{REST_PREFIX}{model}/versions/{version}" if version else f"{REST_PREFIX}{model}"
