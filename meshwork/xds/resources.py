"""Builders of clusters and endpoints that Envoy and gRPC clients both understand.

Each takes plain values and returns an encoded `Resource`; the same values give the same bytes, and
are encoded once. What only Envoy reads (health checks, HTTP/2 options) gRPC clients ignore.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest
from typing import Any, Literal

from meshwork.xds.messages import Values, encode, packed
from meshwork.xds.snapshot import Resource
from meshwork.xds.wire import nested

CONNECT_TIMEOUT = "2s"
HEALTH_INTERVAL = "1s"
# A replica that computes may answer late; two misses in a row say that it hangs.
HEALTH_TIMEOUT = "2s"
# Admission is the replica's: what it can't take it refuses. These only must not stand in the way of
# the retries that follow when a host with many calls in flight dies.
NO_LIMIT = 1_000_000

# Field numbers: ClusterLoadAssignment.endpoints, LocalityLbEndpoints.lb_endpoints.
_ENDPOINTS, _LB_ENDPOINTS = 2, 2

Balancing = Literal["weighted_round_robin", "least_request", "round_robin"]

# How hosts are checked, and the options of the connections to them.
Protocol = Literal["grpc", "http"]
_PROTOCOLS: dict[Protocol, tuple[Values, Values]] = {
    "grpc": (
        {"grpc_health_check": {}},
        # A gRPC server that reads a stream of small messages gives its window back many times for each
        # frame that it was sent; Envoy would take that for an attack and break the connection of all.
        {"http2_protocol_options": {"max_inbound_window_update_frames_per_data_frame_sent": NO_LIMIT}},
    ),
    "http": ({"tcp_health_check": {}}, {"http_protocol_options": {}}),
}

# Says that a resource comes over the same stream as the one that names it.
FROM_ADS: Values = {"ads": {}, "resource_api_version": "V3"}

_POLICIES = "envoy.extensions.load_balancing_policies"
_BALANCING: dict[str, tuple[str, Values]] = {
    # Weights come from the load that hosts report with their answers (gRFC A58).
    "weighted_round_robin": (
        f"{_POLICIES}.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        # A report is as good as the next one, so the first counts at once; 0.1 s is the least there is.
        {
            "blackout_period": "0s",
            "weight_update_period": "0.1s",
            "weight_expiration_period": "180s",
            "error_utilization_penalty": 1.0,
        },
    ),
    "least_request": (f"{_POLICIES}.least_request.v3.LeastRequest", {"choice_count": 2}),
    "round_robin": (f"{_POLICIES}.round_robin.v3.RoundRobin", {}),
}


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


def _balancing(balancing: Balancing) -> Values:
    """The policy asked for, and round robin behind it for clients that do not know that one."""
    policies = []
    for name in dict.fromkeys((balancing, "round_robin")):
        message, values = _BALANCING[name]
        # Both kinds of client go by the type of the configuration; the name is for people.
        policies.append({"typed_extension_config": {"name": name, "typed_config": packed(message, values)}})
    return {"policies": policies}


@lru_cache(maxsize=4096)
def cluster(
    name: str, balancing: Balancing = "weighted_round_robin", protocol: Protocol = "grpc"
) -> Resource:
    """The cluster `name` of servers of one protocol, whose hosts the endpoints of that name list.

    A host that can't be reached is ejected after one failure and taken back as soon as a health
    check passes. What a server answers never ejects it: one caller's bad request or short deadline
    must not take hosts from the others. HTTP servers are checked by a connection to the gRPC port
    beside theirs, so that nothing but a caller ever wakes them.
    """
    check, options = _PROTOCOLS[protocol]
    values: dict[str, Any] = {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": FROM_ADS},
        "connect_timeout": CONNECT_TIMEOUT,
        "load_balancing_policy": _balancing(balancing),
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
            "consecutive_local_origin_failure": 1,
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
                    "max_retries": NO_LIMIT,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                {"explicit_http_config": options},
            )
        },
        # A host that left the endpoints gets nothing new, however healthy; its calls may finish.
        "ignore_health_on_host_removal": True,
    }
    return Resource(name, encode("envoy.config.cluster.v3.Cluster", values))


@lru_cache(maxsize=65536)
def _host(address: str, checked: str) -> bytes:
    endpoint: Values = {"address": socket_address(address)}
    if checked:
        endpoint["health_check_config"] = {"address": socket_address(checked)}
    return encode("envoy.config.endpoint.v3.LbEndpoint", {"endpoint": endpoint, "load_balancing_weight": 1})


@lru_cache(maxsize=4096)
def endpoints(name: str, addresses: tuple[str, ...], checked: tuple[str, ...] = ()) -> Resource:
    """The hosts (`host:port`) of the cluster `name`.

    Args:
        checked: for each host the address that says whether it lives, where that is another.

    Each host is encoded once in its life and the message put together from those: of a thousand
    hosts, one that comes or goes costs one.
    """
    message = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": name})
    if addresses:
        # gRPC clients skip a locality that has no weight, and refuse one that has no name.
        values = {"locality": {}, "load_balancing_weight": 1}
        locality = encode("envoy.config.endpoint.v3.LocalityLbEndpoints", values)
        pairs = zip_longest(addresses, checked, fillvalue="")
        hosts = b"".join(nested(_LB_ENDPOINTS, _host(address, other)) for address, other in pairs)
        message += nested(_ENDPOINTS, locality + hosts)
    return Resource(name, message)
