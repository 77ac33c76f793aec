"""What discovery tells whom, and how each client took it, for people who look inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import timestamp_pb2
from google.protobuf.json_format import Error as JsonError
from google.protobuf.message import DecodeError

from meshwork.admin.v1 import admin_pb2
from meshwork.serving.fields import text
from meshwork.xds.ads import AdsService, ClientState
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.messages import decode
from meshwork.xds.snapshot import ORDER, Resource, Snapshot, kind

_LONGEST_NAME = 500
# The gateway's listener holds every proto of the mesh; nobody reads that as base64.
_LONGEST_VALUE = 2000


class Discovery:
    """Describes a cache and the clients that it is served to.

    Args:
        router: name of this router.
    """

    def __init__(self, router: str, cache: SnapshotCache, ads: AdsService) -> None:
        self._router = router
        self._cache = cache
        self._ads = ads

    def describe(self, request: admin_pb2.GetDiscoveryRequest) -> admin_pb2.GetDiscoveryResponse:
        """The snapshot in force and the clients.

        Raises:
            InvalidArgument: the name to look for is too long.
        """
        if request.name_contains:
            text("name_contains", request.name_contains, longest=_LONGEST_NAME)
        clients = sorted(self._ads.clients, key=lambda client: (client.node.id, client.since))
        return admin_pb2.GetDiscoveryResponse(
            router=self._router,
            version=self._cache.snapshot.version,
            generation=self._cache.generation,
            resources=_resources(self._cache.snapshot, request.name_contains, contents=request.resources),
            clients=[_client(client) for client in clients],
        )


def _resources(snapshot: Snapshot, part: str, *, contents: bool) -> Iterator[admin_pb2.DiscoveryResource]:
    for type_url in ORDER:
        for name, resource in sorted(snapshot.resources(type_url).items()):
            if part in name:
                yield admin_pb2.DiscoveryResource(
                    type=kind(type_url),
                    name=name,
                    version=resource.version,
                    size_bytes=len(resource.body),
                    content=_content(type_url, resource) if contents else "",
                )


def _content(type_url: str, resource: Resource) -> str:
    try:
        values = decode(type_url.rpartition("/")[2], resource.body)
    except (DecodeError, JsonError, TypeError) as error:
        return json.dumps({"unreadable": str(error)})
    return json.dumps(_shortened(values), ensure_ascii=False)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return f"{value[:100]}... ({len(value)} characters)"
    return value


def _client(client: ClientState) -> admin_pb2.DiscoveryClient:
    connected = timestamp_pb2.Timestamp()
    connected.FromMilliseconds(int(client.since * 1000))
    subscriptions = [client.subscriptions[each] for each in ORDER if each in client.subscriptions]
    return admin_pb2.DiscoveryClient(
        node=client.node.id,
        user_agent=client.node.user_agent,
        incremental=client.incremental,
        generation=client.generation,
        connect_time=connected,
        acks=sum(subscription.acks for subscription in subscriptions),
        nacks=sum(subscription.nacks for subscription in subscriptions),
        subscriptions=[
            admin_pb2.DiscoverySubscription(
                type=kind(subscription.type_url),
                names=() if subscription.wildcard else sorted(subscription.names),
                sent=len(subscription.held),
                acknowledged=subscription.accepted,
                rejected=subscription.reason,
                rejected_names=sorted(subscription.rejections),
            )
            for subscription in subscriptions
        ],
    )
