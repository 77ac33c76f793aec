"""What Envoy reads when it starts: who it is, and where its discovery service is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from meshwork.xds.resources import split_address

DISCOVERY_CLUSTER = "discovery"
OTLP_CLUSTER = "otlp"
# Spans go out each second, many at once; by default it is every five spans, or 5 s.
_RUNTIME = {
    "tracing.opentelemetry.flush_interval_ms": 1000,
    "tracing.opentelemetry.min_flush_spans": 512,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """The bootstrap of one Envoy.

    Attributes:
        node: its name, in logs of the discovery service.
        cluster: name of the group of Envoys that it belongs to.
        zone: where it runs; "" if nobody says.
        discovery: `host:port` of each server of the discovery service; names are resolved.
        admin_socket: path of the Unix socket of its admin interface.
        otlp: `host:port` of each that takes its traces; () if nothing does.
    """

    node: str
    cluster: str
    discovery: Sequence[str]
    admin_socket: str
    otlp: Sequence[str] = ()
    zone: str = ""

    def to_json(self) -> str:
        """The bootstrap as the JSON that Envoy reads; the same values give the same text."""
        return json.dumps(self._config(), indent=1, sort_keys=True)

    def _config(self) -> dict[str, object]:
        ads = {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [
                {
                    "envoy_grpc": {"cluster_name": DISCOVERY_CLUSTER},
                    # A discovery service that restarts is found again soon.
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
                }
            ],
        }
        source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
        return {
            "node": {"id": self.node, "cluster": self.cluster, "locality": {"zone": self.zone}},
            "admin": {"address": {"pipe": {"path": self.admin_socket, "mode": 0o600}}},
            "layered_runtime": {
                "layers": [{"name": "static", "static_layer": _RUNTIME}, {"name": "admin", "admin_layer": {}}]
            },
            "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
            "static_resources": {
                "clusters": [
                    _cluster(DISCOVERY_CLUSTER, self.discovery),
                    *([_cluster(OTLP_CLUSTER, self.otlp)] if self.otlp else []),
                ]
            },
        }


def _cluster(name: str, addresses: Sequence[str]) -> dict[str, object]:
    """A cluster of gRPC servers at these addresses."""
    hosts = []
    for address in addresses:
        host, port = split_address(address)
        socket = {"socket_address": {"address": host, "port_value": port}}
        hosts.append({"endpoint": {"address": socket}})
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            # A server that vanished without a word must not hold the stream for ever.
            "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "5s"}}
        },
    }
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": hosts}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
    }
