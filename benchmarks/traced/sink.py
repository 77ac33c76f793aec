"""`python -m benchmarks.traced.sink`: takes spans by OTLP and drops them; prints its port."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc


class Sink(grpc.GenericRpcHandler):
    """Counts bytes, unread: what a collector does with spans is not the mesh's cost."""

    def __init__(self) -> None:
        self.taken = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Answers Export."""
        return grpc.unary_unary_rpc_method_handler(self._export)

    async def _export(self, request: bytes, context: Any) -> bytes:
        self.taken += len(request)
        return b""


async def serve() -> None:
    """Until SIGTERM."""
    sink, server = Sink(), grpc.aio.server()
    server.add_generic_rpc_handlers((sink,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve())
