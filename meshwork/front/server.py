"""A gRPC server with grpc.aio's interface: coroutine handlers on the loop, calls from `core`.

It has no interceptors, and takes no handlers that are plain functions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import grpc

from meshwork.errors import Unavailable
from meshwork.front import core
from meshwork.front.call import Call

_LAST_WORDS_S = 1.0  # for the status of calls that are given up to reach their callers

Options = Sequence[tuple[str, Any]]


class _Asked(NamedTuple):
    method: str
    invocation_metadata: Any


def _cut(grace_s: float) -> Unavailable:
    return Unavailable(
        f"the replica was told to end and this call was not done within the {grace_s:g} s that calls in "
        "flight are given; call again, another replica may answer",
        reason="DRAIN_TIMEOUT",
        metadata={"drain_s": f"{grace_s:g}"},
    )


class Server(grpc.aio.Server):
    """Serves the handlers it is given on the loop that `start` runs on."""

    def __init__(self, options: Options = ()) -> None:
        self._core = core.Core(options)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._found: dict[bytes, grpc.RpcMethodHandler[Any, Any]] = {}
        self._running: set[Call] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Lets `generic_rpc_handlers` answer; the first that knows a method has it."""
        self._handlers.extend(generic_rpc_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Opens `host:port`; port 0 takes a free one. Gives the port.

        Raises:
            RuntimeError: it cannot be opened.
        """
        return self._core.listen(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """As `add_insecure_port`, with TLS."""
        return self._core.listen(address, server_credentials)

    async def start(self) -> None:
        """Begins to serve."""
        self._loop = asyncio.get_running_loop()
        self._core.start(self._on_call)

    def _on_call(self, event: core.Event) -> None:
        assert self._loop is not None
        method: bytes = event.call_details.method
        handler = self._found.get(method)
        if handler is None and (handler := self._handler(method, event.invocation_metadata)):
            self._found[method] = handler
        Call(event, handler, self._loop, self._running).begin()

    def _handler(self, method: bytes, metadata: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        asked: Any = _Asked(method.decode("latin-1"), metadata)
        found = (handlers.service(asked) for handlers in self._handlers)
        return next((handler for handler in found if handler is not None), None)

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls, waits up to `grace` seconds for those in flight, ends what is left.

        After a grace those end with UNAVAILABLE, which says why; without one they are cancelled.
        """
        if self._loop is None:
            return
        self._core.stop()
        if grace is not None and not await self._stopped(grace):
            for call in tuple(self._running):
                call.give_up(_cut(grace))
            await self._stopped(_LAST_WORDS_S)
        if not self._core.stopped.done():
            self._core.cancel_calls()
            await asyncio.shield(self._core.stopped)

    async def _stopped(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._core.stopped)
        return self._core.stopped.done()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Waits until the server was stopped; true if that took longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._core.stopped)
        except TimeoutError:
            return True
        return False
