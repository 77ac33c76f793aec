"""Builders of routes and of the listeners of gRPC clients.

A route leads to one cluster and carries no timeout of its own: the caller's deadline (`grpc-timeout`)
is the only one, and a stream without one stays open.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from meshwork.protobuf import nested
from meshwork.xds.messages import Values, encode, packed
from meshwork.xds.resources import FROM_ADS
from meshwork.xds.snapshot import Resource

RETRIES = 2
# How often Envoy picks anew where a call that is made again would go to a host that it came from. A pick
# costs less than a microsecond, and with few of them calls are lost: weights of 10 to 1 give one host ten
# picks in a row, and on a ring of two every second neighbour is the same host.
PICKS = 100
# Says, with `1`, that the service remembers the request by its id, so that it may be sent again.
IDEMPOTENCY_HEADER = "meshwork-idempotency"

# The filters of the gateway that read a request for the model that it names.
EXTRACTION_FILTER = "envoy.filters.http.grpc_field_extraction"
MODEL_FILTER = "meshwork.model"
BODY_FILTERS = (EXTRACTION_FILTER, MODEL_FILTER)
# In their place it holds a request that they need not read, so that one that is too large is known here.
BUFFER_FILTER = "envoy.filters.http.buffer"
_BUFFER = "envoy.extensions.filters.http.buffer.v3"

# Field numbers: RouteConfiguration.virtual_hosts, VirtualHost.routes.
_VIRTUAL_HOSTS, _ROUTES = 2, 3


class Retry(enum.Enum):
    """When a failed call may be made again, on another host."""

    SAFE = "unavailable,cancelled,connect-failure,reset,refused-stream"  # it changes nothing
    UNSENT = "connect-failure,refused-stream"  # it was certainly not begun
    LOST = "connect-failure,reset,refused-stream"  # it changes nothing, and there was no answer


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteSpec:
    """Where calls go.

    Attributes:
        name: for logs and error texts.
        path: the whole path, or with a `/` at its end the beginning of it.
        below: whether paths below it match too.
        header: name of a request header that must have `value`; "" to ask for none.
        value: what the header must be; None if it must be absent.
        found: whether `header` names the cluster, and `value` is how that must begin (Envoy only).
        unread_bytes: how large a request may be that BODY_FILTERS do not read; 0 if they do (Envoy only).
        once_only: whether only requests match that are remembered by their id.
        grpc_only: whether only gRPC requests match.
        cluster: where to send it; "" to answer `status` and `body` at once (Envoy only).
        retries: the most times that it is made again.
        hedge_after_s: after how long another host is asked too; 0 for never.
        hash_header: the header whose value chooses the host, where the cluster's policy hashes.
        content_type: of `body`.
    """

    name: str
    path: str
    below: bool = False
    header: str = ""
    value: str | None = None
    found: bool = False
    unread_bytes: int = 0
    once_only: bool = False
    grpc_only: bool = False
    cluster: str = ""
    retry: Retry = Retry.SAFE
    retries: int = RETRIES
    hedge_after_s: float = 0.0
    hash_header: str = ""
    status: int = 200
    body: str = ""
    content_type: str = "text/plain"


def _match(spec: RouteSpec) -> Values:
    kind = "path_separated_prefix" if spec.below else "prefix" if spec.path.endswith("/") else "path"
    values: Values = {kind: spec.path}
    headers: list[Values] = []
    if spec.header and spec.value is None:
        headers.append({"name": spec.header, "present_match": True, "invert_match": True})
    elif spec.header:
        how = "prefix" if spec.found else "exact"
        headers.append({"name": spec.header, "string_match": {how: spec.value}})
    if spec.once_only:
        headers.append({"name": IDEMPOTENCY_HEADER, "string_match": {"exact": "1"}})
    if headers:
        values["headers"] = headers
    if spec.grpc_only:
        values["grpc"] = {}
    return values


def _retries(spec: RouteSpec) -> Values:
    elsewhere = packed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
    values: Values = {
        "retry_on": spec.retry.value,
        "num_retries": spec.retries,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": elsewhere}
        ],
        "host_selection_retry_max_attempts": PICKS,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.2s"},
    }
    if spec.hedge_after_s:
        values["per_try_timeout"] = f"{spec.hedge_after_s:g}s"
    return values


def _action(spec: RouteSpec) -> Values:
    values: Values = {
        **({"cluster_header": spec.header} if spec.found else {"cluster": spec.cluster}),
        "timeout": "0s",
        "idle_timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
    }
    if spec.retries:
        values["retry_policy"] = _retries(spec)
    if spec.hedge_after_s:
        values["hedge_policy"] = {"hedge_on_per_try_timeout": True}
    if spec.hash_header:
        values["hash_policy"] = [{"header": {"header_name": spec.hash_header}}]
    return values


@lru_cache(maxsize=65536)
def _route(spec: RouteSpec, default_retries: int) -> bytes:
    """As an entry of its table: a table of thousands is put together from what was encoded before.

    Args:
        default_retries: how often the table has calls repeated whose route does not say; 0 for never.
    """
    values: Values = {"name": spec.name, "match": _match(spec)}
    if spec.unread_bytes:
        off = packed("envoy.config.route.v3.FilterConfig", {"disabled": True})
        held = packed(f"{_BUFFER}.BufferPerRoute", {"buffer": {"max_request_bytes": spec.unread_bytes}})
        values["typed_per_filter_config"] = dict.fromkeys(BODY_FILTERS, off) | {BUFFER_FILTER: held}
    if spec.cluster or spec.found:
        action = _action(spec)
        said = spec.retries, spec.retry, spec.hedge_after_s
        if default_retries and not spec.retries:
            action["retry_policy"] = {"num_retries": 0}
        elif spec.retries and said == (default_retries, Retry.SAFE, 0.0):
            del action["retry_policy"]
        values["route"] = action
    else:
        values["direct_response"] = {"status": spec.status, "body": {"inline_string": spec.body}}
        header = {"key": "content-type", "value": spec.content_type}
        values["response_headers_to_add"] = [
            {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return nested(_ROUTES, encode("envoy.config.route.v3.Route", values))


def routes(
    name: str,
    specs: Sequence[RouteSpec],
    per_filter: Mapping[str, Values] | None = None,
    *,
    default_retries: int = 0,
) -> Resource:
    """The routes `name`: the first that matches is taken.

    Args:
        per_filter: configuration of HTTP filters by their name, for all routes.
        default_retries: how often calls that change nothing are repeated, said once for the table; a
            table of thousands is half as large by it. 0 has each route say it. For Envoy alone.
    """
    values: Values = {"name": name, "domains": ["*"], "typed_per_filter_config": dict(per_filter or {})}
    if default_retries:
        usual = RouteSpec(name=name, path="/", retries=default_retries)
        values["retry_policy"] = _retries(usual)
    host = encode("envoy.config.route.v3.VirtualHost", values)
    host += b"".join(_route(spec, default_retries) for spec in specs)
    table = encode("envoy.config.route.v3.RouteConfiguration", {"name": name})
    return Resource(name, table + nested(_VIRTUAL_HOSTS, host))


def router_filter() -> Values:
    """The last HTTP filter, which sends requests to their cluster."""
    # `x-envoy-*` headers of callers are not a way around our routes, nor ours a way to know hosts.
    config = packed("envoy.extensions.filters.http.router.v3.Router", {"suppress_envoy_headers": True})
    return {"name": "envoy.filters.http.router", "typed_config": config}


def connection_manager(values: Values) -> Values:
    """An HTTP connection manager with these values, as the value of a field of type Any."""
    return packed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", values)


@cache
def api_listener(name: str) -> Resource:
    """What a gRPC client finds under `xds:///name`: the routes of that name. Not for Envoy."""
    manager = connection_manager(
        {
            "stat_prefix": name,
            "rds": {"config_source": FROM_ADS, "route_config_name": name},
            "http_filters": [router_filter()],
        }
    )
    listener = {"name": name, "api_listener": {"api_listener": manager}}
    return Resource(name, encode("envoy.config.listener.v3.Listener", listener), listed=False)
