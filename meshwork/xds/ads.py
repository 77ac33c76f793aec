"""The aggregated discovery service: brings each client to the snapshot in force, in a safe order.

One stream carries all types. Routes are sent only when the client has replied to the clusters and
endpoints, so these are there before a route names them; what has left the snapshot stays with the
client until its routes have changed, and goes last. Clusters and their endpoints do not wait for each
other: Envoy replies to new clusters only when it has the endpoints to warm them up with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from meshwork.xds.cache import SnapshotCache
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ORDER, ROUTES, Snapshot
from meshwork.xds.subscription import Subscription
from meshwork.xds.wire import ADS_METHOD, Node, Request, Response, encode_response, parse_request

log = logging.getLogger(__name__)

# In the order in which they are sent. A client that gets a resource of the key anew waits for those
# of the value, changed or not.
_DEPENDENTS = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}


class ClientState:
    """What one client has, and what it should be sent next; no input or output.

    Attributes:
        node: who the client is, from its first request.
        generation: of the last snapshot that it took whole.
    """

    def __init__(self) -> None:
        self.node = Node()
        self.generation = 0
        self.subscriptions: dict[str, Subscription] = {}
        self._target: Snapshot | None = None

    def take(self, request: Request) -> None:
        """Takes a request in."""
        if request.node is not None:
            self.node = request.node
        if request.type_url not in ORDER:
            return
        subscription = self.subscriptions.setdefault(
            request.type_url, Subscription(request.type_url, self.node.id)
        )
        fresh = subscription.take(request)
        log.debug("%s %s%s", self.node.id, "asks: " if fresh else "asks, stale: ", request)
        if fresh and request.error:
            kind = request.type_url.rpartition(".")[2]
            log.error("%s rejects its %s: %s", self.node.id or "a client", kind, request.error)

    def next(self, snapshot: Snapshot, generation: int) -> Response | None:
        """The next response, or None if the client has all of `snapshot` or owes a reply."""
        if snapshot is not self._target:
            self._target = snapshot
            for subscription in self.subscriptions.values():
                subscription.retain(snapshot)
        ordered = [self.subscriptions[type_url] for type_url in ORDER if type_url in self.subscriptions]
        if not snapshot.complete and any(subscription.reconnected for subscription in ordered):
            return None
        while True:
            for group in _DEPENDENTS.items():
                members = [self.subscriptions[each] for each in group if each in self.subscriptions]
                for subscription in members:
                    response = self._respond(subscription, snapshot)
                    if response is not None:
                        return response
                if any(subscription.waiting for subscription in members):
                    return None
            leftover = [
                subscription for subscription in ordered if subscription.wildcard and subscription.retained
            ]
            if not leftover:
                break
            for subscription in leftover:
                subscription.release()
        self.generation = generation
        return None

    def _respond(self, subscription: Subscription, snapshot: Snapshot) -> Response | None:
        before = subscription.sent
        response = subscription.respond(snapshot)
        dependent = self.subscriptions.get(_DEPENDENTS.get(subscription.type_url, ""))
        if response is not None and dependent is not None and subscription.changed_bodies(before):
            dependent.force()
        return response

    def accepted(self, type_url: str) -> bool:
        """Whether the client has taken what it was last sent of a type."""
        return type_url in self.subscriptions and self.subscriptions[type_url].accepted

    def rejections(self) -> dict[str, str]:
        """By type, why the client rejected what it was last sent."""
        return {
            type_url: subscription.rejected
            for type_url, subscription in self.subscriptions.items()
            if subscription.rejected
        }


class _Stream(ClientState):
    """A client that is connected."""

    def __init__(self) -> None:
        super().__init__()
        self._woken = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """There is something to look at."""
        self._woken.set()

    async def woken(self) -> None:
        """Waits until there is."""
        await self._woken.wait()
        self._woken.clear()


class AdsService:
    """Serves a cache to Envoy and to gRPC clients as xDS (state of the world)."""

    def __init__(self, cache: SnapshotCache) -> None:
        self._cache = cache
        self._streams: set[_Stream] = set()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a `grpc.aio` server needs to serve this."""
        service, _, method = ADS_METHOD[1:].partition("/")
        behaviour: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._serve, None, None
        )
        return grpc.method_handlers_generic_handler(service, {method: behaviour})

    @property
    def clients(self) -> tuple[ClientState, ...]:
        """The clients that are connected."""
        return tuple(self._streams)

    async def _serve(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        stream = _Stream()
        self._streams.add(stream)
        self._cache.join(stream)
        reader = asyncio.create_task(self._read(stream, requests), name="ads reader")
        try:
            while not stream.closed:
                generation = stream.generation
                response = stream.next(self._cache.snapshot, self._cache.generation)
                if response is not None:
                    log.debug(
                        "%s gets %d of %s, nonce %s",
                        stream.node.id,
                        len(response.bodies),
                        response.type_url,
                        response.nonce,
                    )
                    yield encode_response(response)
                    continue
                if stream.generation != generation:
                    await self._cache.progressed()
                await stream.woken()
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            self._streams.discard(stream)
            await self._cache.leave(stream)

    async def _read(self, stream: _Stream, requests: AsyncIterator[bytes]) -> None:
        try:
            async for raw in requests:
                stream.take(parse_request(raw))
                stream.wake()
        except DecodeError as error:
            log.error("%s sent no discovery request, closing its stream: %s", stream.node.id, error)
        finally:
            stream.closed = True
            stream.wake()
