"""A TCP relay whose line can be cut: connections stay open and new ones are taken, but nothing passes.

So a partition looks to both sides: no reset, no end, only silence.
"""

from __future__ import annotations

import asyncio
import contextlib

CHUNK_BYTES = 1 << 16


class Relay:
    """Forwards the connections to `listen` to `to`, both `(host, port)`."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int = 0) -> int:
        """Listens; gives the port."""
        self._server = await asyncio.start_server(self._accept, host, port)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def cut(self) -> None:
        """Lets nothing pass from now on."""
        self._open.clear()

    def mend(self) -> None:
        """Lets everything pass again, also what came meanwhile."""
        self._open.set()

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio's, for a coroutine, logs an error when it is cancelled (until 3.12).
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._to)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer))
                group.create_task(self._pass(far_reader, writer))
        except (OSError, ExceptionGroup):
            pass  # one side is gone: so is the connection
        finally:
            writer.close()
            if far_writer is not None:
                far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        await self._open.wait()  # an end does not pass a cut line either
        with contextlib.suppress(OSError):
            writer.write_eof()
