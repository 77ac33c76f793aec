"""Builders of clusters and endpoints that Envoy and gRPC clients both understand.

Each takes plain values and returns an encoded `Resource`; the same values give the same bytes, and
are encoded once. What only Envoy reads (health checks, HTTP/2 options) gRPC clients ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from meshwork.protobuf import nested
from meshwork.xds.balancing import Balancing, load_balancing_policy
from meshwork.xds.messages import Values, encode, packed
from meshwork.xds.snapshot import Resource

CONNECT_TIMEOUT = "1s"
# A host that hangs answers no ping: its connections end 2 s after its last word, and with them its
# calls, which are made again elsewhere. A computing host still answers, from a thread of its own.
PING_INTERVAL = "0.5s"
PING_TIMEOUT = "1.5s"
HEALTH_INTERVAL = "1s"
# A replica that computes may answer late; two misses in a row say that it hangs.
HEALTH_TIMEOUT = "1s"
# Admission is the replica's: what it can't take it refuses.
NO_LIMIT = 1_000_000
# Retries of a cluster that wait or run at once are at most this part of its calls, so that hosts that
# are slow to fail get at most 1 / (1 - part) times the calls; but always as many as are lost at once where
# a host dies, or hangs until all callers wait for it. Hosts that fail at once get 1 + retries times.
RETRY_BUDGET_PERCENT = 50.0
RETRIES_AT_ONCE = 500
# A try that is overtaken counts as a failure of its host, as an unanswered connection does.
HEDGED_FAILURES = 5

# Field numbers: ClusterLoadAssignment.endpoints, LocalityLbEndpoints.lb_endpoints.
_ENDPOINTS, _LB_ENDPOINTS = 2, 2

# How hosts are checked, and the options of the connections to them.
Protocol = Literal["grpc", "http"]
_PROTOCOLS: dict[Protocol, tuple[Values, Values]] = {
    "grpc": (
        {"grpc_health_check": {}},
        # A gRPC server that reads a stream of small messages gives its window back many times for each
        # frame that it was sent; Envoy would take that for an attack and break the connection of all.
        {
            "http2_protocol_options": {
                "max_inbound_window_update_frames_per_data_frame_sent": NO_LIMIT,
                "connection_keepalive": {
                    "interval": PING_INTERVAL,
                    "timeout": PING_TIMEOUT,
                    # Before the first call on a connection that was still, for the host may have gone.
                    "connection_idle_interval": PING_INTERVAL,
                },
            }
        },
    ),
    "http": ({"tcp_health_check": {}}, {"http_protocol_options": {}}),
}

# Says that a resource comes over the same stream as the one that names it.
FROM_ADS: Values = {"ads": {}, "resource_api_version": "V3"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """What one cluster has otherwise than another.

    Attributes:
        balancing: how calls are spread over its hosts.
        panic_percent: with fewer of its hosts in health, calls go to all of them (Envoy only).
        hedged: whether its routes ask a second host when the first is late.
    """

    balancing: Balancing = field(default_factory=Balancing)
    panic_percent: float = 10.0
    hedged: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """An endpoint of a cluster.

    Attributes:
        address: `host:port`.
        weight: its share of the calls beside the others', at least 1.
        zone: where it is; hosts of one zone are a locality.
        checked: the address that says whether it lives, where that is another.
    """

    address: str
    weight: int = 1
    zone: str = ""
    checked: str = ""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        ValueError: it is neither.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def socket_address(address: str) -> Values:
    """`host:port` as an envoy.config.core.v3.Address."""
    host, port = split_address(address)
    return {"socket_address": {"address": host, "port_value": port}}


@lru_cache(maxsize=4096)
def cluster(name: str, options: ClusterOptions = ClusterOptions(), protocol: Protocol = "grpc") -> Resource:
    """The cluster `name` of servers of one protocol, whose hosts the endpoints of that name list.

    A host that can't be reached is ejected after one failure and taken back as soon as a health
    check passes. What a server answers never ejects it: one caller's bad request or short deadline
    must not take hosts from the others. HTTP servers are checked by a connection to the gRPC port
    beside theirs, so that nothing but a caller ever wakes them.
    """
    check, http_options = _PROTOCOLS[protocol]
    values: dict[str, Any] = {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": FROM_ADS},
        "connect_timeout": CONNECT_TIMEOUT,
        "load_balancing_policy": load_balancing_policy(options.balancing),
        "common_lb_config": {"healthy_panic_threshold": {"value": options.panic_percent}},
        "health_checks": [
            {
                "timeout": HEALTH_TIMEOUT,
                "interval": HEALTH_INTERVAL,
                "no_traffic_interval": HEALTH_INTERVAL,
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                **check,
            }
        ],
        "outlier_detection": {
            "interval": "1s",
            "base_ejection_time": "2s",
            "max_ejection_time": "10s",
            "max_ejection_percent": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": HEDGED_FAILURES if options.hedged else 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": NO_LIMIT,
                    "max_pending_requests": NO_LIMIT,
                    "max_requests": NO_LIMIT,
                    "retry_budget": {
                        "budget_percent": {"value": RETRY_BUDGET_PERCENT},
                        "min_retry_concurrency": RETRIES_AT_ONCE,
                    },
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                {"explicit_http_config": http_options},
            )
        },
        # A host that left the endpoints gets nothing new, however healthy; its calls may finish.
        "ignore_health_on_host_removal": True,
    }
    return Resource(name, encode("envoy.config.cluster.v3.Cluster", values))


@lru_cache(maxsize=65536)
def _host(host: Host) -> bytes:
    endpoint: Values = {"address": socket_address(host.address)}
    if host.checked:
        endpoint["health_check_config"] = {"address": socket_address(host.checked)}
    values = {"endpoint": endpoint, "load_balancing_weight": host.weight}
    return encode("envoy.config.endpoint.v3.LbEndpoint", values)


@lru_cache(maxsize=4096)
def endpoints(name: str, hosts: tuple[Host, ...]) -> Resource:
    """The hosts of the cluster `name`, by zone, and what gRPC clients in each zone are told of them.

    Each host is encoded once in its life and the message put together from those: of a thousand
    hosts, one that comes or goes costs one.
    """
    by_zone: dict[str, list[Host]] = {}
    for host in hosts:
        by_zone.setdefault(host.zone, []).append(host)
    weights = {zone: sum(host.weight for host in by_zone[zone]) for zone in sorted(by_zone)}
    views = tuple(
        (zone, _assignment(name, by_zone, weights, shares(weights, zone)))
        for zone in (weights if len(weights) > 1 else ())
    )
    return replace(_assignment(name, by_zone, weights, weights), views=views)


def shares(weights: Mapping[str, int], zone: str) -> dict[str, int]:
    """How the calls of `zone` spread over zones of these weights (their capacity), if each calls as much.

    ::

        fair         = sum of weights / number of zones: what each zone's callers need
        own share    = min(weight of the zone, fair)
        from another = the rest, in proportion to what is over there: max(0, its weight - fair)

    Zones that are not in it get calls only when those that are have no host left.
    """
    fair = sum(weights.values()) / len(weights)
    over = {each: max(0.0, weight - fair) for each, weight in weights.items() if each != zone}
    missing = max(0.0, fair - weights[zone])
    found = {zone: max(1, round(min(weights[zone], fair)))}
    if missing:
        total = sum(over.values())
        found |= {each: round(missing * part / total) for each, part in over.items()}
    return {each: share for each, share in found.items() if share}


def _assignment(
    name: str, by_zone: Mapping[str, Sequence[Host]], weights: Mapping[str, int], first: Mapping[str, int]
) -> Resource:
    """The zones in `first`, with their shares of the calls, and behind them the others."""
    message = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": name})
    for zone, weight in weights.items():
        # gRPC clients skip a locality that has no weight, and refuse one that has no name.
        values = {
            "locality": {"zone": zone} if zone else {},
            "load_balancing_weight": first.get(zone, weight),
            "priority": 0 if zone in first else 1,
        }
        locality = encode("envoy.config.endpoint.v3.LocalityLbEndpoints", values)
        locality += b"".join(nested(_LB_ENDPOINTS, _host(host)) for host in by_zone[zone])
        message += nested(_ENDPOINTS, locality)
    return Resource(name, message)
