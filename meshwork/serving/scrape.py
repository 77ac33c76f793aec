"""`/metrics` over HTTP: what prometheus_client's registry has, with exemplars if OpenMetrics is asked for."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder


async def metrics(request: web.Request) -> web.Response:
    """Everything that this process counts."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    # Some milliseconds of text; calls go on meanwhile.
    body = await asyncio.to_thread(encode, REGISTRY)
    return web.Response(body=body, headers={"Content-Type": content_type})
