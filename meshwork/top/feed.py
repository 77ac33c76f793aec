"""What the live view shows, as a router tells it, and again after the router was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from meshwork.client import AsyncClient, connect_async
from meshwork.errors import MeshworkError, NotFound, Unimplemented
from meshwork.router.v1 import router_pb2
from meshwork.top.view import Picture
from meshwork.trace.v1 import trace_pb2

AGAIN_S = 1.0  # after a router could not be asked
TIMEOUT_S = 5.0
_SILENCE_S = 10.0  # without a load, though one comes every 2 s: the stream is dead
_EVENTS = 200
_TRACES = 1000  # the most recent, among which the slowest is looked for
_RECENT_S = 600.0


class Feed:
    """A mesh, asked through its routers.

    Args:
        router: `host:port`, several by comma.
    """

    def __init__(self, router: str) -> None:
        self.router = router

    async def pictures(self) -> AsyncIterator[Picture | str]:
        """What the router says, every two seconds; where it can't be asked, why, until it can again."""
        while True:
            try:
                async with connect_async(self.router, timeout_s=TIMEOUT_S) as mesh:
                    loads = mesh.router.watch_load()
                    while True:
                        async with asyncio.timeout(_SILENCE_S):
                            load = await anext(loads)
                        yield await _picture(mesh, load)
            except Unimplemented:
                yield f"{self.router} is no router of this release: it does not know WatchLoad"
            except MeshworkError as error:
                yield f"{self.router} does not answer: {error}"
            except (TimeoutError, StopAsyncIteration):
                yield f"{self.router} says nothing any more"
            await asyncio.sleep(AGAIN_S)

    async def slowest(self, service: str, replica: str) -> tuple[trace_pb2.GetTraceResponse, str]:
        """The slowest recent trace of a replica's calls, else of its service's; and which of these it is.

        Args:
            service: "" for any.
            replica: "" for any.

        Raises:
            NotFound: no trace is kept.
            MeshworkError: the router does not answer.
        """
        async with connect_async(self.router, timeout_s=TIMEOUT_S) as mesh:
            found = await _slowest(mesh, trace_pb2.ListTracesRequest(service=service, instance=replica))
            if found is not None:
                return found, f"the slowest of {replica or service or 'all'} in 10 minutes"
            found = await _slowest(mesh, trace_pb2.ListTracesRequest(service=service)) if replica else None
            if found is not None:
                return found, f"the slowest of {service} in 10 minutes; there is none of {replica}"
        raise NotFound(
            f"no trace of {service or 'any service'} in the last 10 minutes; `meshwork call --trace`, or a "
            "client that sends `traceparent`, makes one",
            kind="trace",
            name=service,
        )


async def _slowest(
    mesh: AsyncClient, request: trace_pb2.ListTracesRequest
) -> trace_pb2.GetTraceResponse | None:
    """The slowest of the recent traces that `request` asks for."""
    request.page_size = _TRACES
    listed = await mesh.trace._unary("ListTraces", request, trace_pb2.ListTracesResponse, None)
    since = time.time() - _RECENT_S
    recent = [each for each in listed.traces if each.start_time.seconds >= since]
    if not recent:
        return None
    slowest = max(recent, key=lambda each: each.duration.ToNanoseconds())
    return await mesh.trace.get_trace(slowest.trace_id)


async def _picture(mesh: AsyncClient, load: router_pb2.WatchLoadResponse) -> Picture:
    replicas, described, events = await asyncio.gather(
        mesh.router.list_replicas(), mesh.router.get_mesh(), _events(mesh)
    )
    return Picture(mesh=described, replicas=tuple(replicas), load=load, events=events)


async def _events(mesh: AsyncClient) -> tuple[router_pb2.Event, ...]:
    """The last ones; none while Redis, which keeps them, is away: GetMesh says that it is."""
    request = router_pb2.ListEventsRequest(page_size=_EVENTS)
    try:
        page = await mesh.router._unary("ListEvents", request, router_pb2.ListEventsResponse, None)
    except MeshworkError:
        return ()
    return tuple(page.events)[::-1]
