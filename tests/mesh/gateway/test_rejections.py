"""A resource that a real Envoy rejects does not keep the others from it, and is told by its name."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshwork.xds.ads import AdsService, ClientState
from meshwork.xds.bootstrap import Bootstrap
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.messages import encode, packed
from meshwork.xds.resources import FROM_ADS, Host, cluster, endpoints
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, Resource, Snapshot
from services.router import envoy

NAMES = [f"nlp/m@{number}" for number in range(12)]
BAD = "nlp/m@7"


def bad_cluster() -> Resource:
    """A cluster with a balancing policy that there is not."""
    nonsense = {"name": "?", "typed_config": packed("google.protobuf.Duration", {"value": "1s"})}
    values = {
        "name": BAD,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": FROM_ADS},
        "load_balancing_policy": {"policies": [{"typed_extension_config": nonsense}]},
    }
    return Resource(BAD, encode("envoy.config.cluster.v3.Cluster", values))


def bad_endpoints() -> Resource:
    """Endpoints of which one has a name for an address."""
    address = {"socket_address": {"address": "no number", "port_value": 1}}
    values = {"cluster_name": BAD, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    return Resource(BAD, encode("envoy.config.endpoint.v3.ClusterLoadAssignment", values))


def snapshot(port: int, *bad: tuple[str, Resource]) -> Snapshot:
    """Clusters with one host each, at `port`; by type, what is not as it should be."""
    good = Snapshot(
        {
            CLUSTER: [cluster(name) for name in NAMES],
            ENDPOINTS: [endpoints(name, (Host(address=f"127.0.0.1:{port}"),)) for name in NAMES],
        }
    )
    return good.replace({type_url: {resource.name: resource} for type_url, resource in bad})


@pytest.fixture
async def cache_and_ads(tmp_path: Path) -> AsyncIterator[tuple[SnapshotCache, AdsService]]:
    cache = SnapshotCache(snapshot(1))
    ads = AdsService(cache)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((ads.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    bootstrap = Bootstrap(
        node="e", cluster="c", discovery=(f"127.0.0.1:{port}",), admin_socket=str(tmp_path / "a")
    )
    file = tmp_path / "envoy.json"
    file.write_text(bootstrap.to_json())
    command = [envoy.binary(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "off"]
    process = subprocess.Popen(command)  # noqa: ASYNC220 - it returns at once
    yield cache, ads
    process.terminate()
    process.wait(timeout=20)
    await server.stop(None)


async def settled(cache: SnapshotCache, ads: AdsService) -> dict[str, Any]:
    """What the one client holds, by type, once it has all that it will take."""

    def has_all(client: ClientState) -> bool:
        return client.generation == cache.generation and {CLUSTER, ENDPOINTS} <= client.subscriptions.keys()

    async with asyncio.timeout(30):
        while not any(has_all(client) for client in ads.clients):
            await asyncio.sleep(0.02)
    return dict(ads.clients[0].subscriptions)


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("type_url", "bad", "reason"),
    [(CLUSTER, bad_cluster(), "load balancer factory"), (ENDPOINTS, bad_endpoints(), "malformed IP")],
    ids=["cluster", "endpoints"],
)
async def test_envoy_takes_all_others_and_the_bad_one_when_it_is_mended(
    cache_and_ads: tuple[SnapshotCache, AdsService], type_url: str, bad: Resource, reason: str
) -> None:
    cache, ads = cache_and_ads
    await settled(cache, ads)
    cache.publish(snapshot(2, (type_url, bad)))
    found = await settled(cache, ads)
    assert list(found[type_url].rejections) == [BAD]
    assert reason in found[type_url].reason
    held = found[ENDPOINTS].held
    assert {name for name in NAMES if held[name] == cache.snapshot.resources(ENDPOINTS)[name]} >= {
        name for name in NAMES if name != BAD
    }
    cache.publish(snapshot(3))
    found = await settled(cache, ads)
    assert not found[type_url].reason
    assert found[type_url].held == cache.snapshot.resources(type_url)
