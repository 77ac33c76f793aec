"""The HTTP listener of a replica: it listens at once, and loads its server when somebody comes.

Most replicas are called by gRPC alone. Their HTTP port is open all the same, for the price of a
socket: aiohttp (15 MB, 0.2 s) is imported for the first connection, which waits in the backlog.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from meshwork.serving.oip.rest import RestService

log = logging.getLogger(__name__)

_BACKLOG = 128


class RestListener:
    """Serves the REST form on a socket of its own.

    Args:
        listen: `host:port`; port 0 takes a free one.
        drain_s: the longest that requests in flight may take at the end.
        make: makes the service, from the class that it is given.

    Raises:
        OSError: the address can't be listened on.
    """

    def __init__(self, listen: str, drain_s: float, make: Callable[[type[RestService]], RestService]) -> None:
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self._drain_s = drain_s
        self._make = make
        self._runner: web.AppRunner | None = None
        self._starting: asyncio.Task[None] | None = None
        self.port: int = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._somebody_came)

    def _somebody_came(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._starting = asyncio.create_task(self._start(), name="REST")
        self._starting.add_done_callback(_log_failure)

    async def _start(self) -> None:
        web = await asyncio.to_thread(importlib.import_module, "aiohttp.web")
        rest = await asyncio.to_thread(importlib.import_module, "meshwork.serving.oip.rest")
        service: RestService = self._make(rest.RestService)
        # A caller who leaves takes its work out of the queue.
        self._runner = web.AppRunner(
            service.application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=self._drain_s,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, backlog=_BACKLOG).start()

    async def stop(self) -> None:
        """Takes no more connections, and lets requests in flight finish; nothing the second time."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()


def _log_failure(starting: asyncio.Task[None]) -> None:
    if not starting.cancelled() and starting.exception():
        log.error("the REST service can't be started", exc_info=starting.exception())
