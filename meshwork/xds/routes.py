"""Builders of routes and of the listeners of gRPC clients.

A route leads to one cluster and carries no timeout of its own: the caller's deadline (`grpc-timeout`)
is the only one, and a stream without one stays open.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionMaxStreamDuration,
    RouteConfiguration,
    RouteMatch,
    RouteMatchGrpcRouteMatchOptions,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from meshwork.xds.resources import from_ads
from meshwork.xds.snapshot import Resource
from meshwork.xds.wire import nested

RETRIES = 3

# Field numbers: RouteConfiguration.virtual_hosts, VirtualHost.routes.
_VIRTUAL_HOSTS, _ROUTES = 2, 3


class Retry(enum.Enum):
    """When a failed call may be made again, on another host."""

    SAFE = "unavailable,connect-failure,reset,refused-stream"  # it changes nothing
    UNSENT = "connect-failure,refused-stream"  # it was certainly not begun


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteSpec:
    """Where calls go.

    Attributes:
        name: for logs and error texts.
        path: the whole path, or with a `/` at its end the beginning of it.
        header: name of a request header that must have `value`; "" to ask for none.
        value: what the header must be; None if it must be absent.
        grpc_only: whether only gRPC requests match.
        cluster: where to send it; "" to answer `status` and `body` at once (Envoy only).
    """

    name: str
    path: str
    header: str = ""
    value: str | None = None
    grpc_only: bool = False
    cluster: str = ""
    retry: Retry = Retry.SAFE
    status: int = 200
    body: str = ""


def _match(spec: RouteSpec) -> RouteMatch:
    headers = []
    if spec.header and spec.value is None:
        headers = [HeaderMatcher(name=spec.header, present_match=True, invert_match=True)]
    elif spec.header:
        headers = [HeaderMatcher(name=spec.header, string_match=StringMatcher(exact=spec.value))]
    grpc = RouteMatchGrpcRouteMatchOptions() if spec.grpc_only else None
    if spec.path.endswith("/"):
        return RouteMatch(prefix=spec.path, headers=headers, grpc=grpc)
    return RouteMatch(path=spec.path, headers=headers, grpc=grpc)


def _retries(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        retry_on=retry.value,
        num_retries=RETRIES,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=Any.pack(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=5,
        retry_back_off=RetryPolicyRetryBackOff(
            base_interval=timedelta(milliseconds=5), max_interval=timedelta(milliseconds=200)
        ),
    )


@lru_cache(maxsize=16384)
def _route(spec: RouteSpec) -> bytes:
    if not spec.cluster:
        answer = DirectResponseAction(status=spec.status, body=DataSource(inline_string=spec.body))
        return bytes(Route(name=spec.name, match=_match(spec), direct_response=answer))
    action = RouteAction(
        cluster=spec.cluster,
        timeout=timedelta(0),
        idle_timeout=timedelta(0),
        max_stream_duration=RouteActionMaxStreamDuration(
            max_stream_duration=timedelta(0), grpc_timeout_header_max=timedelta(0)
        ),
        retry_policy=_retries(spec.retry),
    )
    return bytes(Route(name=spec.name, match=_match(spec), route=action))


def routes(name: str, specs: Sequence[RouteSpec], per_filter: Mapping[str, Any] | None = None) -> Resource:
    """The routes `name`: the first that matches is taken.

    Args:
        per_filter: configuration of HTTP filters by their name, for all routes.
    """
    host = VirtualHost(name=name, domains=["*"], typed_per_filter_config=dict(per_filter or {}))
    body = bytes(host) + b"".join(nested(_ROUTES, _route(spec)) for spec in specs)
    return Resource(name, bytes(RouteConfiguration(name=name)) + nested(_VIRTUAL_HOSTS, body))


def router_filter() -> HttpFilter:
    """The last HTTP filter, which sends requests to their cluster."""
    # `x-envoy-*` headers of callers are not a way around our routes, nor ours a way to know hosts.
    config = Any.pack(Router(suppress_envoy_headers=True))
    return HttpFilter(name="envoy.filters.http.router", typed_config=config)


@cache
def api_listener(name: str) -> Resource:
    """What a gRPC client finds under `xds:///name`: the routes of that name. Not for Envoy."""
    manager = HttpConnectionManager(
        stat_prefix=name,
        rds=Rds(config_source=from_ads(), route_config_name=name),
        http_filters=[router_filter()],
    )
    listener = Listener(name=name, api_listener=ApiListener(api_listener=Any.pack(manager)))
    return Resource(name, bytes(listener), listed=False)
