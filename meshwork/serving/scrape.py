"""`/metrics` over HTTP: what prometheus_client's registry has, with exemplars if OpenMetrics is asked for."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import REGISTRY, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# The moment at which each series began would be a series of its own, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


def answer(request: web.Request) -> web.Response:
    """Everything that this process counts, in the form that is asked for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})


async def metrics(request: web.Request) -> web.Response:
    """The same, made on another thread: it takes some milliseconds, and calls go on meanwhile."""
    return await asyncio.to_thread(answer, request)
