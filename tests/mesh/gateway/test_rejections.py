"""A resource that a real client rejects does not keep the others from it, and is told by its name."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from meshwork.xds.ads import AdsService, ClientState
from meshwork.xds.bootstrap import Bootstrap
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.messages import encode
from meshwork.xds.resources import FROM_ADS, cluster, endpoints
from meshwork.xds.routes import RouteSpec, api_listener, routes
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import envoy

NAMES = [f"nlp/m@{number}" for number in range(12)]
BAD = "nlp/m@7"

CALLER = """
import sys, grpc
with grpc.insecure_channel("xds:///nlp") as channel:
    for _ in range(200):
        try:
            channel.unary_unary(sys.argv[1], None, None)(b"", timeout=1, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:  # the server was reached
                print("reached", flush=True)
                sys.stdin.read()
"""


@dataclass
class Served:
    """A discovery service in this process."""

    cache: SnapshotCache
    ads: AdsService
    port: int
    rejected: list[tuple[str, list[str], str]] = field(default_factory=list)

    async def client(self, generation: int) -> ClientState:
        """The one client, once it has all that it will take of `generation`."""
        async with asyncio.timeout(30):
            while True:
                for client in self.ads.clients:
                    if client.generation >= generation:
                        return client
                await asyncio.sleep(0.02)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    rejected: list[tuple[str, list[str], str]] = []
    cache = SnapshotCache()
    ads = AdsService(cache, lambda _, kind, names, reason: rejected.append((kind, [*names], reason)))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((ads.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Served(cache, ads, port, rejected)
    await server.stop(None)


def bad_cluster(name: str) -> Resource:
    values = {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": FROM_ADS}}
    policy = {
        "typed_extension_config": {
            "name": "?",
            "typed_config": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"},
        }
    }
    values["load_balancing_policy"] = {"policies": [policy]}
    return Resource(name, encode("envoy.config.cluster.v3.Cluster", values))


def snapshot(port: int, *, cluster_is: Resource | None = None, hosts_are: Resource | None = None) -> Snapshot:
    clusters = {name: cluster(name) for name in NAMES}
    hosts = {name: endpoints(name, (f"127.0.0.1:{port}",)) for name in NAMES}
    if cluster_is:
        clusters[cluster_is.name] = cluster_is
    if hosts_are:
        hosts[hosts_are.name] = hosts_are
    specs = [RouteSpec(name="nlp", path=f"/{name}/", cluster=name) for name in NAMES]
    return Snapshot(
        {
            CLUSTER: clusters.values(),
            ENDPOINTS: hosts.values(),
            LISTENER: [api_listener("nlp")],
            ROUTES: [routes("nlp", specs)],
        }
    )


@pytest.fixture
async def envoy_process(served: Served, tmp_path: Path) -> AsyncIterator[None]:
    bootstrap = Bootstrap(
        node="envoy",
        cluster="test",
        discovery=(f"127.0.0.1:{served.port}",),
        admin_socket=str(tmp_path / "a"),
    )
    file = tmp_path / "envoy.json"
    file.write_text(bootstrap.to_json())
    with (tmp_path / "envoy.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [envoy.binary(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1"],
            stdout=log,
            stderr=log,
        )
    yield
    process.terminate()
    process.wait(timeout=20)
