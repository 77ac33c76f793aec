"""A plain Envoy with a static configuration: no filter but the router, HTTP/2 to the replicas, no weights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.paced.mesh import until
from meshwork.supervisor.ports import free_port
from services.router import envoy

THREADS = "2"  # as the router starts its own


def plain_config(port: int, hosts: Sequence[str], policy: str) -> dict[str, Any]:
    """One listener, one route, one cluster whose calls are spread by `policy`."""

    def address(host_port: str) -> dict[str, Any]:
        host, _, number = host_port.rpartition(":")
        return {"socket_address": {"address": host, "port_value": int(number)}}

    types = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "replicas", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"},
            }
        ],
    }
    network_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    http2 = {
        "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "replicas",
        "type": "STATIC",
        "connect_timeout": "2s",
        "lb_policy": policy,
        "load_assignment": {
            "cluster_name": "replicas",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host)}} for host in hosts]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "circuit_breakers": {"thresholds": [{"max_requests": 1_000_000, "max_pending_requests": 1_000_000}]},
    }
    listener = {
        "name": "plain",
        "address": address(f"127.0.0.1:{port}"),
        "filter_chains": [{"filters": [network_filter]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def plain_envoy(folder: Path, hosts: Sequence[str], policy: str) -> Iterator[tuple[str, psutil.Process]]:
    """Runs one; gives its address and process."""
    port = free_port()
    config = folder / f"plain-{policy}.json"
    config.write_text(json.dumps(plain_config(port, hosts, policy)))
    command = [envoy.binary(), "--config-path", str(config), "--concurrency", THREADS]
    command += ["--log-level", "error", "--disable-hot-restart"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            proxy = psutil.Process(process.pid)
            until(
                lambda: any(each.laddr.port == port for each in proxy.net_connections("tcp")), "Envoy listens"
            )
            yield f"127.0.0.1:{port}", proxy
        finally:
            process.terminate()
