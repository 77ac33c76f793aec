"""The router's HTTP listener: what Prometheus scrapes, and where it learns what there is to scrape.

GET /metrics          the router's own
GET /gateway/metrics  those of its Envoy, whose admin interface nobody else can reach
GET /sd               every replica, router and gateway: `scrape_targets`
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from meshwork.serving.config import host_name
from meshwork.serving.scrape import answer
from meshwork.xds.resources import split_address
from services.router import envoy
from services.router.scrape_targets import GATEWAY_PATH

log = logging.getLogger(__name__)

_SCRAPE_S = 5.0
# Of some thousand stats of an Envoy, those that say what callers and replicas see.
_STATS = (
    r"^http\.gateway\.downstream_(rq_(total|xx|[1-5]xx|active|time|timeout)|cx_(active|total))"
    r"|^cluster\..*(upstream_rq_(total|[1-5]xx|active|time|retry.*|timeout|pending_overflow|per_try_timeout)"
    r"|upstream_cx_(active|connect_fail)|membership_(total|healthy)|outlier_detection\.ejections_active)$"
    r"|^server\.(live|uptime|memory_allocated)$"
)


class HttpListener:
    """Serves it.

    Args:
        state: what is read off the router at each scrape.
        targets: gives what there is to scrape.
        admin_socket: of the gateway's Envoy; None without one.
    """

    def __init__(
        self, state: Collector, targets: Callable[[], list[dict[str, Any]]], admin_socket: str | None
    ) -> None:
        self._state = state
        self._targets = targets
        self._socket = admin_socket
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics), web.get("/sd", self._sd)])
        if admin_socket is not None:
            app.add_routes([web.get(GATEWAY_PATH, self._gateway)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def start(self, listen: str) -> str:
        """Listens on `host:port`, port 0 for a free one; gives the address at which others reach it.

        Raises:
            OSError: the address can't be listened on.
        """
        host, port = split_address(listen) if not listen.endswith(":0") else (listen[:-2].strip("[]"), 0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            host = host_name()
        address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        REGISTRY.register(self._state)
        log.info("metrics on http://%s/metrics, all there is to scrape on /sd", address)
        return address

    async def stop(self) -> None:
        """Listens no more."""
        REGISTRY.unregister(self._state)
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return answer(request)

    async def _gateway(self, _: web.Request) -> web.Response:
        assert self._socket is not None
        try:
            path = f"/stats/prometheus?filter={quote(_STATS)}"
            status, text = await envoy.admin(self._socket, path, _SCRAPE_S)
        except OSError as error:  # TimeoutError is one
            return web.Response(status=503, text=f"the gateway does not answer: {error}\n")
        return web.Response(status=status, body=text.encode(), content_type="text/plain")

    async def _sd(self, _: web.Request) -> web.Response:
        return web.json_response(self._targets())
