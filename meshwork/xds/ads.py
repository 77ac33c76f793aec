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
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from meshwork.xds.cache import SnapshotCache
from meshwork.xds.delta import DeltaRequest, DeltaResponse, encode_delta_response, parse_delta_request
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ORDER, ROUTES, Snapshot, differences, kind
from meshwork.xds.subscription import Subscription
from meshwork.xds.wire import (
    ADS_METHOD,
    DELTA_METHOD,
    Node,
    Request,
    Response,
    encode_response,
    parse_request,
)

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, bytes]

# In the order in which they are sent. A client that gets a resource of the key anew waits for those
# of the value, changed or not.
_DEPENDENTS = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}

OnReject = Callable[["ClientState", str, Sequence[str], str], None]
"""Is told of a client, a type, the names that it rejects (none if that can't be told yet), and why."""


class ClientState:
    """What one client has, and what it should be sent next; no input or output.

    Attributes:
        node: who the client is, from its first request.
        incremental: whether it speaks delta xDS.
        generation: of the last snapshot of which it lacks nothing.
        since: when it connected, in seconds of Unix time.
    """

    def __init__(self, *, incremental: bool = False, on_reject: OnReject | None = None) -> None:
        self.node = Node()
        self.incremental = incremental
        self.generation = 0
        self.since = time.time()
        self.subscriptions: dict[str, Subscription] = {}
        self._on_reject = on_reject
        self._target: Snapshot | None = None

    def take(self, request: Request | DeltaRequest) -> None:
        """Takes a request in."""
        if request.node is not None:
            self.node = request.node
        if request.type_url not in ORDER:
            return
        subscription = self.subscriptions.get(request.type_url)
        if subscription is None:
            subscription = Subscription(request.type_url, self.node.id, self.incremental, self.node.view)
            self.subscriptions[request.type_url] = subscription
        nacks = subscription.nacks
        if isinstance(request, DeltaRequest):
            fresh = subscription.take_delta(request)
        else:
            fresh = subscription.take(request)
        log.debug("%s %s%s", self.node.id, "asks: " if fresh else "asks, stale: ", request)
        if subscription.nacks > nacks:
            self._tell(subscription)

    def _tell(self, subscription: Subscription) -> None:
        reason = subscription.rejected
        names = [name for name, each in subscription.rejections.items() if each.reason == reason]
        what = f"its {kind(subscription.type_url)} {', '.join(names)}".rstrip()
        log.error("%s rejects %s: %s", self.node.id or "a client", what, reason)
        if self._on_reject is not None:
            self._on_reject(self, subscription.type_url, names, reason)

    def next(self, snapshot: Snapshot, generation: int) -> Response | DeltaResponse | None:
        """The next response, or None if the client has all of `snapshot` or owes a reply."""
        for subscription in self.subscriptions.values():
            subscription.generation = generation
        if snapshot is not self._target:
            if self._target is not None:
                for type_url, changed in differences(self._target, snapshot).items():
                    if changed and type_url in self.subscriptions:
                        self.subscriptions[type_url].note(changed, generation)
            self._target = snapshot
        ordered = [self.subscriptions[type_url] for type_url in ORDER if type_url in self.subscriptions]
        if not snapshot.complete and any(subscription.reconnected for subscription in ordered):
            return None
        response = self._first(ordered, snapshot)
        # However fast snapshots follow each other, what it has taken of the earlier ones counts.
        lacking = [since for each in ordered if (since := each.outstanding) is not None]
        self.generation = max(self.generation, min(lacking) - 1 if lacking else generation)
        return response

    def _first(self, ordered: list[Subscription], snapshot: Snapshot) -> Response | DeltaResponse | None:
        for group in _DEPENDENTS.items():
            members = [self.subscriptions[each] for each in group if each in self.subscriptions]
            for subscription in members:
                response = self._respond(subscription, snapshot)
                if response is not None:
                    return response
            if any(subscription.waiting for subscription in members):
                return None
        # No route leads to what is gone: it may go.
        responses = (subscription.respond(snapshot) for subscription in ordered)
        return next((response for response in responses if response is not None), None)

    def _respond(self, subscription: Subscription, snapshot: Snapshot) -> Response | DeltaResponse | None:
        response = subscription.respond(snapshot, removals=False)
        dependent = self.subscriptions.get(_DEPENDENTS.get(subscription.type_url, ""))
        if response is not None and dependent is not None and subscription.replaced:
            # The endpoints of a cluster bear its name; which routes a listener has, only it knows.
            dependent.force(subscription.replaced if subscription.type_url == CLUSTER else None)
        return response

    def accepted(self, type_url: str) -> bool:
        """Whether the client has taken what it was last sent of a type."""
        return type_url in self.subscriptions and self.subscriptions[type_url].accepted

    def rejections(self) -> dict[str, str]:
        """By type, why the client rejected what it was sent."""
        return {
            type_url: subscription.reason
            for type_url, subscription in self.subscriptions.items()
            if subscription.reason
        }


class _Stream(ClientState):
    """A client that is connected."""

    def __init__(self, *, incremental: bool, on_reject: OnReject | None) -> None:
        super().__init__(incremental=incremental, on_reject=on_reject)
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
    """Serves a cache to Envoy (incremental) and to gRPC clients (which know only the state of the world).

    Args:
        on_reject: is told of each rejection, besides the log.
    """

    def __init__(self, cache: SnapshotCache, on_reject: OnReject | None = None) -> None:
        self._cache = cache
        self._on_reject = on_reject
        self._streams: set[_Stream] = set()
        self._past = (0, 0)  # acks and nacks of clients that have left

    def handler(self) -> grpc.GenericRpcHandler:
        """What a `grpc.aio` server needs to serve this."""
        service, _, method = ADS_METHOD[1:].partition("/")
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method: grpc.stream_stream_rpc_method_handler(self._serve_whole, None, None),
            DELTA_METHOD.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(
                self._serve_changes, None, None
            ),
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    @property
    def clients(self) -> tuple[ClientState, ...]:
        """The clients that are connected."""
        return tuple(self._streams)

    @property
    def replies(self) -> tuple[int, int]:
        """How often clients have taken what they were sent, and how often rejected it, since the start."""
        there = [each for stream in self._streams for each in stream.subscriptions.values()]
        return self._past[0] + sum(each.acks for each in there), self._past[1] + sum(
            each.nacks for each in there
        )

    async def _serve_whole(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self._serve(requests, incremental=False)) as responses:
            async for response in responses:
                yield response

    async def _serve_changes(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self._serve(requests, incremental=True)) as responses:
            async for response in responses:
                yield response

    async def _serve(self, requests: AsyncIterator[bytes], *, incremental: bool) -> AsyncGenerator[bytes]:
        stream = _Stream(incremental=incremental, on_reject=self._on_reject)
        self._streams.add(stream)
        self._cache.join(stream)
        reader = asyncio.create_task(self._read(stream, requests), name="ads reader")
        try:
            while not stream.closed:
                generation = stream.generation
                response = stream.next(self._cache.snapshot, self._cache.generation)
                if stream.generation != generation:
                    self._cache.progressed()
                if response is not None:
                    log.debug("%s gets %s, nonce %s", stream.node.id, response.type_url, response.nonce)
                    yield _encode(response)
                    continue
                await stream.woken()
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            for each in stream.subscriptions.values():
                self._past = self._past[0] + each.acks, self._past[1] + each.nacks
            self._streams.discard(stream)
            self._cache.leave(stream)

    async def _read(self, stream: _Stream, requests: AsyncIterator[bytes]) -> None:
        parse = parse_delta_request if stream.incremental else parse_request
        try:
            async for raw in requests:
                stream.take(parse(raw))
                stream.wake()
        except DecodeError as error:
            log.error("%s sent no discovery request, closing its stream: %s", stream.node.id, error)
        finally:
            stream.closed = True
            stream.wake()


def _encode(response: Response | DeltaResponse) -> bytes:
    if isinstance(response, DeltaResponse):
        return encode_delta_response(response)
    return encode_response(response)
