"""How a server is spoken to: bytes of a request, bytes of an answer, and connections between.

The load generator encodes every request beforehand and decodes a sample of the answers afterwards,
so that its own cost in the measured time is the transport's alone.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from benchmarks.peers.requests import Array

Call = Callable[[bytes], Awaitable[bytes]]
"""Sends one request and gives the answer's bytes; raises on any other end."""


class Wire(ABC):
    """A protocol, for one workload."""

    def __init__(self, workload: str, address: str) -> None:
        self.workload = workload
        self.address = address  # host:port

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """The request for an input of `Requests`."""

    @abstractmethod
    def decode(self, answer: bytes) -> Array:
        """The answer as `Requests.error` takes it."""

    @abstractmethod
    def connect(self, in_flight: int) -> Any:
        """An async context manager that gives `in_flight` calls, to be used by one caller each."""


class GrpcWire(Wire):
    """A unary rpc; its callers share a few channels."""

    method: str  # /package.Service/Method
    metadata: tuple[tuple[str, str], ...] | None = None
    channels = 4

    @asynccontextmanager
    async def connect(self, in_flight: int) -> AsyncIterator[list[Call]]:
        """See `Wire.connect`."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(self.address, options=options)
            for _ in range(min(in_flight, self.channels))
        ]
        stubs: list[grpc.aio.UnaryUnaryMultiCallable[Any, Any]] = [
            channel.unary_unary(self.method) for channel in channels
        ]
        try:
            yield [self._call(stubs[index % len(stubs)]) for index in range(in_flight)]
        finally:
            for channel in channels:
                await channel.close()

    def _call(self, stub: grpc.aio.UnaryUnaryMultiCallable[Any, Any]) -> Call:
        if self.metadata is None:
            return stub
        return lambda request: stub(request, metadata=self.metadata)


def open_wire(name: str, workload: str, address: str) -> Wire:
    """The wire of that name (`module:Class` in this package or elsewhere)."""
    module, _, kind = name.partition(":")
    wire: Wire = getattr(importlib.import_module(module), kind)(workload, address)
    return wire
