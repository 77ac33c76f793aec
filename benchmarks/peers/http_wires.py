"""The peers that speak HTTP, over a client that does no more than it must.

One connection a caller, HTTP/1.1, kept open.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np

from benchmarks.peers.requests import Array
from benchmarks.peers.wire import Call, Wire

_END_OF_HEAD = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One request at a time; answers with a length or in chunks."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def call(self, request: bytes) -> asyncio.Future[bytes]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_END_OF_HEAD)
        if end < 0:
            return
        head = self._received[:end].lower()
        rest = self._received[end + len(_END_OF_HEAD) :]
        _, found, length = head.partition(b"content-length:")
        if found:
            size = int(length.partition(b"\r\n")[0])
            if len(rest) < size:
                return
            body = rest[:size]
        elif rest.endswith(b"0\r\n\r\n"):
            body = _joined(rest)
        else:
            return
        self._received = b""
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        status = int(head[9:12])
        if status == 200:
            answer.set_result(body)
        else:
            answer.set_exception(RuntimeError(f"HTTP {status}: {body[:300]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"closed by the server: {error}"))


def _joined(chunks: bytes) -> bytes:
    body = b""
    while True:
        length, _, chunks = chunks.partition(b"\r\n")
        size = int(length, 16)
        if not size:
            return body
        body += chunks[:size]
        chunks = chunks[size + 2 :]


class _HttpWire(Wire):
    path: str
    content_type: str

    @asynccontextmanager
    async def connect(self, in_flight: int) -> AsyncIterator[list[Call]]:
        host, _, port = self.address.rpartition(":")
        connections = [
            (await asyncio.get_running_loop().create_connection(_Connection, host, int(port)))[1]
            for _ in range(in_flight)
        ]
        try:
            yield [connection.call for connection in connections]
        finally:
            for connection in connections:
                connection.close()

    def body(self, value: Any) -> bytes:
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        body = self.body(value)
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.address}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def decode(self, answer: bytes) -> Array:
        return np.array(json.loads(answer), np.float32).ravel()


class Mosec(_HttpWire):
    """Bytes as they are, both ways: what costs it least."""

    path, content_type = "/inference", "application/octet-stream"

    def body(self, value: Any) -> bytes:
        """UTF-8, float32 bytes, or the JPEG file."""
        return value.encode() if isinstance(value, str) else bytes(value)

    def decode(self, answer: bytes) -> Array:
        """Float32 bytes."""
        return np.frombuffer(answer, np.float32)


class LitServe(_HttpWire):
    """JSON; a picture in base64."""

    path, content_type = "/predict", "application/json"

    def body(self, value: Any) -> bytes:
        """`{"x": ...}`."""
        if self.workload == "image":
            value = base64.b64encode(value).decode()
        return json.dumps({"x": value if isinstance(value, str) else value.tolist()}).encode()


class BentoML(_HttpWire):
    """JSON, a list of one; a picture as a form's file."""

    path = "/predict"

    @property
    def content_type(self) -> str:  # type: ignore[override]
        """Of the body."""
        return "multipart/form-data; boundary=PART" if self.workload == "image" else "application/json"

    def body(self, value: Any) -> bytes:
        """`{"inputs": [...]}`, or the form."""
        if self.workload != "image":
            return json.dumps({"inputs": [value if self.workload == "text" else value.tolist()]}).encode()
        head = b'--PART\r\nContent-Disposition: form-data; name="inputs"; filename="image.jpg"\r\n'
        return b"".join((head, b"Content-Type: image/jpeg\r\n\r\n", value, b"\r\n--PART--\r\n"))
