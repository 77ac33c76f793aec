from __future__ import annotations

import json

import pytest

from meshwork.admin.v1 import admin_pb2
from meshwork.errors import InvalidArgument
from meshwork.xds.ads import AdsService, ClientState
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.delta import DeltaRequest
from meshwork.xds.resources import cluster
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, Resource, Snapshot
from meshwork.xds.wire import Node
from services.router.discovery import Discovery, _client

GARBAGE = Resource("nlp/broken@1", b"\xff\xff")
SNAPSHOT = Snapshot({CLUSTER: [cluster("nlp/m@1"), cluster("router"), GARBAGE]})


@pytest.fixture
def discovery() -> Discovery:
    cache = SnapshotCache(SNAPSHOT)
    return Discovery("127.0.0.1:9000", cache, AdsService(cache))


def test_the_snapshot_is_shown_with_contents_only_if_asked(discovery: Discovery) -> None:
    answer = discovery.describe(admin_pb2.GetDiscoveryRequest())
    assert (answer.router, answer.version, answer.generation) == ("127.0.0.1:9000", SNAPSHOT.version, 1)
    assert [each.name for each in answer.resources] == ["nlp/broken@1", "nlp/m@1", "router"]
    assert not any(each.content for each in answer.resources)
    request = admin_pb2.GetDiscoveryRequest(resources=True, name_contains="nlp/m")
    (found,) = discovery.describe(request).resources
    assert json.loads(found.content)["name"] == "nlp/m@1"
    assert found.size_bytes == len(cluster("nlp/m@1").body)


def test_what_can_not_be_read_and_what_is_asked_wrong_is_said(discovery: Discovery) -> None:
    (found,) = discovery.describe(
        admin_pb2.GetDiscoveryRequest(resources=True, name_contains="broken")
    ).resources
    assert "unreadable" in json.loads(found.content)
    with pytest.raises(InvalidArgument, match="name_contains"):
        discovery.describe(admin_pb2.GetDiscoveryRequest(name_contains="x" * 501))


def test_a_client_is_shown_with_what_it_took_and_what_it_rejected() -> None:
    client = ClientState(incremental=True)
    client.take(DeltaRequest(type_url=CLUSTER, node=Node(id="gateway/default", user_agent="envoy")))
    client.take(DeltaRequest(type_url=ENDPOINTS, subscribe=("nlp/m@1",)))
    errors = {CLUSTER: "Error adding/updating cluster(s) nlp/broken@1: no such thing"}
    while (response := client.next(SNAPSHOT, 7)) is not None:
        error = errors.pop(response.type_url, "")
        client.take(DeltaRequest(type_url=response.type_url, nonce=response.nonce, error=error))
    shown = _client(client)
    assert (shown.node, shown.user_agent, shown.incremental) == ("gateway/default", "envoy", True)
    assert (shown.generation, shown.acks, shown.nacks) == (7, 2, 1)
    clusters, endpoints = shown.subscriptions
    assert (clusters.type, clusters.sent, clusters.acknowledged) == ("Cluster", 2, False)
    assert list(clusters.rejected_names) == ["nlp/broken@1"]
    assert "no such thing" in clusters.rejected
    assert (endpoints.acknowledged, list(endpoints.names)) == (True, ["nlp/m@1"])
