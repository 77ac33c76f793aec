"""VectorService as the load generator speaks it: a call a vector, or a stream that carries many."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np

from benchmarks.peers.requests import Array
from benchmarks.peers.wire import Call, GrpcWire
from benchmarks.vector.contract import SERVICE, PredictManyResponse, PredictRequest, PredictResponse
from meshwork.protobuf import nested, varint

_REQUESTS, _ID = 1, 3  # field numbers in PredictManyRequest and PredictRequest


class Predict(GrpcWire):
    """A unary call a vector."""

    method = f"/{SERVICE}/Predict"

    def encode(self, value: Any) -> bytes:
        """A vector for the default model."""
        raw: bytes = PredictRequest(content=value.tobytes()).SerializeToString()
        return raw

    def decode(self, answer: bytes) -> Array:
        """The eight numbers."""
        return np.array(PredictResponse.FromString(answer).scores, np.float32)


class PredictMany(Predict):
    """A stream a channel, each message with all that its callers have to ask by then."""

    @asynccontextmanager
    async def connect(self, in_flight: int) -> AsyncIterator[list[Call]]:
        """See `Wire.connect`."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(self.address, options=options)
            for _ in range(min(in_flight, self.channels))
        ]
        streams = [_Stream(channel) for channel in channels]
        try:
            yield [streams[index % len(streams)].call for index in range(in_flight)]
        finally:
            for stream, channel in zip(streams, channels, strict=True):
                stream.close()
                await channel.close()


class _Stream:
    """One stream: what callers ask meanwhile goes out together; answers find their caller by id."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: Any = channel.stream_stream(
            f"/{SERVICE}/PredictMany", response_deserializer=PredictManyResponse.FromString
        )()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._asked: list[bytes] = []
        self._wake = asyncio.Event()
        self._ids = itertools.count(1)
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    async def call(self, request: bytes) -> bytes:
        """Asks, and waits for the answer."""
        identity = next(self._ids)
        tagged = request + varint(_ID << 3) + varint(identity)
        self._asked.append(nested(_REQUESTS, tagged))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = answer
        self._wake.set()
        return await answer

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            message, self._asked = b"".join(self._asked), []
            await self._call.write(message)

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                for response in message.responses:
                    self._waiting.pop(response.id).set_result(response.SerializeToString())
        except grpc.RpcError as error:
            for answer in self._waiting.values():
                answer.set_exception(error)

    def close(self) -> None:
        """Ends the stream."""
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
