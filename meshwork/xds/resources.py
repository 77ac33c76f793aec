"""Builders of clusters and endpoints that Envoy and gRPC clients both understand.

Each takes plain values and returns an encoded `Resource`; the same values give the same bytes, and
are encoded once. What only Envoy reads (health checks, HTTP/2 options) gRPC clients ignore.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Literal

import betterproto2
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    LoadBalancingPolicy,
    LoadBalancingPolicyPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    Http2ProtocolOptions,
    Locality,
    SocketAddress,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    ClientSideWeightedRoundRobin,
)
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest
from envoy_data_plane.envoy.extensions.load_balancing_policies.round_robin.v3 import RoundRobin
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.google.protobuf import Any

from meshwork.xds.snapshot import Resource
from meshwork.xds.wire import nested

CONNECT_TIMEOUT = timedelta(seconds=2)
HEALTH_INTERVAL = timedelta(seconds=1)
# A replica that computes may answer late; two misses in a row say that it hangs.
HEALTH_TIMEOUT = timedelta(seconds=2)
# Admission is the replica's: what it can't take it refuses. These only must not stand in the way of
# the retries that follow when a host with many calls in flight dies.
NO_LIMIT = 1_000_000

# Field numbers: ClusterLoadAssignment.endpoints, LocalityLbEndpoints.lb_endpoints.
_ENDPOINTS, _LB_ENDPOINTS = 2, 2

Balancing = Literal["weighted_round_robin", "least_request", "round_robin"]


def extension(name: str, config: betterproto2.Message) -> TypedExtensionConfig:
    """An extension of Envoy and its configuration."""
    return TypedExtensionConfig(name=name, typed_config=Any.pack(config))


def from_ads() -> ConfigSource:
    """Says that a resource comes over the same stream as the one that names it."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        ValueError: it is neither.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def socket_address(address: str) -> Address:
    """`host:port` as an address."""
    host, port = split_address(address)
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def http2() -> dict[str, Any]:
    """The cluster option that makes Envoy speak HTTP/2 to its hosts."""
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions()
        )
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Any.pack(options)}


def _balancing(balancing: Balancing) -> LoadBalancingPolicy:
    """The policy asked for, and round robin behind it for clients that do not know that one.

    Weights come from the load that hosts report with their answers (gRFC A58).
    """
    known: dict[str, betterproto2.Message] = {
        "client_side_weighted_round_robin": ClientSideWeightedRoundRobin(
            blackout_period=timedelta(seconds=1),
            weight_update_period=timedelta(seconds=1),
            weight_expiration_period=timedelta(seconds=60),
        ),
        "least_request": LeastRequest(choice_count=2),
        "round_robin": RoundRobin(),
    }
    first = "client_side_weighted_round_robin" if balancing == "weighted_round_robin" else balancing
    return LoadBalancingPolicy(
        policies=[
            LoadBalancingPolicyPolicy(
                typed_extension_config=extension(f"envoy.load_balancing_policies.{name}", known[name])
            )
            for name in dict.fromkeys((first, "round_robin"))
        ]
    )


@lru_cache(maxsize=4096)
def cluster(name: str, balancing: Balancing = "weighted_round_robin") -> Resource:
    """The cluster `name` of gRPC servers, whose hosts the endpoints of that name list.

    A host that can't be reached is ejected after one failure and taken back as soon as a health
    check passes. What a server answers never ejects it: one caller's bad request or short deadline
    must not take hosts from the others.
    """
    check = HealthCheck(
        timeout=HEALTH_TIMEOUT,
        interval=HEALTH_INTERVAL,
        no_traffic_interval=HEALTH_INTERVAL,
        unhealthy_threshold=2,
        healthy_threshold=1,
        grpc_health_check=HealthCheckGrpcHealthCheck(),
    )
    outliers = OutlierDetection(
        interval=timedelta(seconds=1),
        base_ejection_time=timedelta(seconds=2),
        max_ejection_time=timedelta(seconds=10),
        max_ejection_percent=100,
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1,
        enforcing_consecutive_local_origin_failure=100,
        enforcing_local_origin_success_rate=0,
        enforcing_consecutive_5xx=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
    )
    limits = CircuitBreakersThresholds(
        max_connections=NO_LIMIT,
        max_pending_requests=NO_LIMIT,
        max_requests=NO_LIMIT,
        max_retries=NO_LIMIT,
    )
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads()),
        connect_timeout=CONNECT_TIMEOUT,
        load_balancing_policy=_balancing(balancing),
        health_checks=[check],
        outlier_detection=outliers,
        circuit_breakers=CircuitBreakers(thresholds=[limits]),
        typed_extension_protocol_options=http2(),
        # A host that left the endpoints gets nothing new, however healthy; its calls may finish.
        ignore_health_on_host_removal=True,
    )
    return Resource(name, bytes(message))


@lru_cache(maxsize=65536)
def _host(address: str) -> bytes:
    host = LbEndpoint(endpoint=Endpoint(address=socket_address(address)), load_balancing_weight=1)
    return bytes(host)


@lru_cache(maxsize=4096)
def endpoints(name: str, addresses: tuple[str, ...]) -> Resource:
    """The hosts (`host:port`) of the cluster `name`.

    Each host is encoded once in its life and the message put together from those: of a thousand
    hosts, one that comes or goes costs one.
    """
    message = bytes(ClusterLoadAssignment(cluster_name=name))
    if addresses:
        # gRPC clients skip a locality that has no weight.
        locality = bytes(LocalityLbEndpoints(locality=Locality(), load_balancing_weight=1))
        hosts = b"".join(nested(_LB_ENDPOINTS, _host(address)) for address in addresses)
        message += nested(_ENDPOINTS, locality + hosts)
    return Resource(name, message)
