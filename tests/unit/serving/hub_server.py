"""A small server that speaks the Hugging Face hub's protocol, as far as downloads need it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, `acme/tiny`, and what was asked of it."""

    files: dict[str, bytes]
    address: str = ""
    asked: list[str] = field(default_factory=list)  # method and path

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/api/models/acme/tiny{rest:.*}", self.info)
        app.router.add_get("/acme/tiny/resolve/{revision}/{name:.+}", self.file)
        return app

    async def info(self, request: web.Request) -> web.Response:
        """The repository's commit and files."""
        self.asked.append(f"{request.method} {request.path}")
        if "gone" in request.path:
            return web.json_response(
                {"error": "Invalid rev id: gone"}, status=404, headers={"X-Error-Code": "RevisionNotFound"}
            )
        if "/tree/" in request.path:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return web.json_response(entries)
        return web.json_response(
            {
                "id": "acme/tiny",
                "modelId": "acme/tiny",
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "downloads": 0,
                "siblings": [{"rfilename": name} for name in self.files],
            }
        )

    async def file(self, request: web.Request) -> web.Response:
        """One file, with the headers by which the client caches it."""
        self.asked.append(f"{request.method} {request.path}")
        data = self.files[request.match_info["name"]]
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        return web.Response(body=data, headers=headers)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serves `files` on a free port, on a thread of its own, until the block ends."""
    hub = Hub(files)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(hub.application())

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        hub.address = f"http://{host}:{port}"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield hub
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
