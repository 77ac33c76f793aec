"""What Prometheus should scrape, in the form of its HTTP service discovery: a pure function.

::

    [{"targets": ["10.0.0.7:40123"], "labels": {"service": "vision", "replica": "vision-1f3a"}},
     {"targets": ["10.0.0.6:9001"],  "labels": {"service": "router", "router": "router-9c01"}},
     {"targets": ["10.0.0.6:9001"],  "labels": {"service": "gateway", "router": "router-9c01",
                                                "__metrics_path__": "/gateway/metrics"}}]

Each router tells all of it, so any one of them will do (prometheus.io, "HTTP SD").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshwork.router.v1 import router_pb2

GATEWAY_PATH = "/gateway/metrics"


def targets(
    replicas: Mapping[str, router_pb2.Replica], routers: Iterable[router_pb2.Router]
) -> list[dict[str, Any]]:
    """Replicas, routers, and gateways by way of their routers; by name."""
    found = [
        _target(each.http_address, service=each.service, replica=each.name, zone=each.zone)
        for _, each in sorted(replicas.items())
        if each.http_address
    ]
    for router in sorted(routers, key=lambda router: router.name):
        if not router.http_address:
            continue
        found.append(_target(router.http_address, service="router", router=router.name))
        if router.gateway:
            labels = {"service": "gateway", "router": router.name, "gateway": router.gateway}
            found.append(_target(router.http_address, __metrics_path__=GATEWAY_PATH, **labels))
    return found


def _target(address: str, **labels: str) -> dict[str, Any]:
    return {"targets": [address], "labels": {name: value for name, value in labels.items() if value}}
