"""What the generated clients are made of: one call, its deadline, its errors, its arguments."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import grpc
from google.protobuf import descriptor_pool, struct_pb2
from google.protobuf.message import Message

from meshwork import spans
from meshwork.errors import InvalidArgument, MeshworkError, Overloaded, from_rpc_error
from meshwork.names import IDEMPOTENCY_HEADER, MODEL_HEADER, header_value
from meshwork.resume import Resumption, resumable
from meshwork.retries import REQUEST_ID

R = TypeVar("R", bound=Message)
M = TypeVar("M", bound=Message)

Metadata = tuple[tuple[str, str], ...]

Media = bytes | str | os.PathLike[str]
"""A file's bytes, its path, or a `data:` URI."""


def texts(value: str | Sequence[str]) -> Sequence[str]:
    """A lone string as a list of one, so that it is not taken for its characters."""
    return [value] if isinstance(value, str) else value


def media(kind: type[M], value: Media | M | None) -> M | None:
    """`value` as the message `kind`, which has `content` and `uri`.

    Raises:
        InvalidArgument: it is a path that cannot be read.
    """
    if value is None or isinstance(value, kind):
        return value
    if isinstance(value, bytes):
        return kind(content=value)
    if isinstance(value, str) and value.startswith("data:"):
        return kind(uri=value)
    path = Path(cast(str, value))
    try:
        return kind(content=path.read_bytes())
    except OSError as error:
        name = kind.DESCRIPTOR.name.lower()
        raise InvalidArgument(f"cannot read {path}: {error.strerror}", field=f"{name}.content") from error


def many_media(kind: type[M], values: Media | M | Sequence[Media | M]) -> list[M]:
    """Each of `values` as the message `kind`; a lone one as a list of one.

    Raises:
        InvalidArgument: one is a path that cannot be read.
    """
    lone = isinstance(values, bytes | str | os.PathLike | kind)
    entries = [values] if lone else cast(Sequence[Media | M], values)
    return [made for entry in entries if (made := media(kind, cast(Media, entry))) is not None]


def new_request_id() -> str:
    """A name that no other request has."""
    return str(uuid.uuid4())


def seed(given: int | None, temperature: float) -> int | None:
    """The seed to sample with: without one a stream that breaks could not be resumed."""
    return random.getrandbits(62) if given is None and temperature else given


def told(request: Message) -> Metadata:
    """The metadata that tells routes of a request, since they do not read it."""
    model = getattr(request, "model", "")
    named: Metadata = ((MODEL_HEADER, header_value(model)),) if model else ()
    return (*named, (IDEMPOTENCY_HEADER, "1")) if getattr(request, REQUEST_ID, "") else named


def struct(value: Mapping[str, Any] | struct_pb2.Struct) -> struct_pb2.Struct:
    """`value` as a Struct; bytes in it become base64.

    Raises:
        InvalidArgument: something in it is no JSON value.
    """
    if isinstance(value, struct_pb2.Struct):
        return value
    made = struct_pb2.Struct()
    try:
        made.update(_jsonable(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidArgument(
            f"should hold texts, numbers, bytes, lists and mappings by text alone: {error}", field="inputs"
        ) from error
    return made


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _jsonable(entry) for name, entry in value.items()}
    return [_jsonable(entry) for entry in value] if isinstance(value, list | tuple) else value


def _serialized(request: Message) -> bytes:
    return request.SerializeToString()


class _Deadline:
    """When a call with all its tries must be over.

    Args:
        timeout_s: seconds from now; None for never.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Seconds until then, 0 if it has passed; None if it never comes."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def allows(self, pause_s: float) -> bool:
        """Whether there is time left after `pause_s`."""
        left_s = self.left_s()
        return left_s is None or pause_s < left_s


class _Service:
    """What sync and asyncio clients share.

    Args:
        metadata: sent with every call.
        wait_when_full: whether a refusal that says when to come back is waited out.
    """

    FULL_NAME: ClassVar[str]

    def __init__(
        self,
        channel: Any,
        timeout_s: float | None,
        metadata: Metadata = (),
        *,
        wait_when_full: bool = False,
    ) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._wait_when_full = wait_when_full
        self._calls: dict[str, Any] = {}

    def _call(self, method: str, response: type[Message], *, streams: bool = False) -> Any:
        if method not in self._calls:
            connect = self._channel.unary_stream if streams else self._channel.unary_unary
            self._calls[method] = connect(
                f"/{self.FULL_NAME}/{method}",
                request_serializer=_serialized,
                response_deserializer=response.FromString,
            )
        return self._calls[method]

    def _sent(self, request: Message, metadata: Metadata) -> Metadata:
        """The metadata of a call: the client's, the call's, and what tells routes of the request."""
        return (*self._metadata, *metadata, *told(request))

    def _deadline(self, timeout_s: float | None) -> _Deadline:
        return _Deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _pause_s(self, error: Exception, deadline: _Deadline) -> float | None:
        """Seconds to wait before a call that was refused is made again; None if it should not be."""
        if not self._wait_when_full or not isinstance(error, Overloaded) or error.retry_after_s is None:
            return None
        pause_s = error.retry_after_s * random.uniform(1, 1.5)  # noqa: S311 - spreads callers
        return pause_s if deadline.allows(pause_s) else None

    def _resumption(self, method: str) -> Resumption | None:
        service = descriptor_pool.Default().FindServiceByName(self.FULL_NAME)
        return Resumption() if resumable(service.methods_by_name[method]) else None


class SyncService(_Service):
    """A service, called from threads."""

    def _unary(
        self,
        method: str,
        request: Message,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> R:
        call, sent, deadline = (
            self._call(method, response),
            self._sent(request, metadata),
            self._deadline(timeout_s),
        )
        while True:
            try:
                with spans.calling(self.FULL_NAME, method) as traced:
                    try:
                        return cast(R, call(request, timeout=deadline.left_s(), metadata=(*sent, *traced)))
                    except grpc.RpcError as error:
                        raise from_rpc_error(error) from error
            except MeshworkError as error:
                pause_s = self._pause_s(error, deadline)
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def _pages(
        self,
        method: str,
        request: Any,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> list[R]:
        pages: list[R] = []
        while not pages or request.page_token:
            pages.append(self._unary(method, request, response, timeout_s, metadata))
            request.page_token = cast(Any, pages[-1]).next_page_token
        return pages

    def _stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> Iterator[R]:
        call, sent = self._call(method, response, streams=True), self._sent(request, metadata)
        deadline, resumption = _Deadline(timeout_s), self._resumption(method)
        while True:
            with spans.calling(self.FULL_NAME, method) as traced:
                answers = call(request, timeout=deadline.left_s(), metadata=(*sent, *traced))
                try:
                    for answer in answers:
                        if resumption is None or resumption.is_new(answer):
                            yield answer
                    if resumption is not None:
                        resumption.end()
                    return
                except grpc.RpcError as error:
                    pause_s = None if resumption is None else resumption.pause_s(error)
                    if pause_s is None or not deadline.allows(pause_s):
                        raise from_rpc_error(error) from error
                finally:
                    answers.cancel()
            time.sleep(pause_s)


class AsyncService(_Service):
    """A service, called from asyncio."""

    async def _unary(
        self,
        method: str,
        request: Message,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> R:
        call, sent, deadline = (
            self._call(method, response),
            self._sent(request, metadata),
            self._deadline(timeout_s),
        )
        while True:
            try:
                with spans.calling(self.FULL_NAME, method) as traced:
                    try:
                        return cast(
                            R, await call(request, timeout=deadline.left_s(), metadata=(*sent, *traced))
                        )
                    except grpc.RpcError as error:
                        raise from_rpc_error(error) from error
            except MeshworkError as error:
                pause_s = self._pause_s(error, deadline)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def _pages(
        self,
        method: str,
        request: Any,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> list[R]:
        pages: list[R] = []
        while not pages or request.page_token:
            pages.append(await self._unary(method, request, response, timeout_s, metadata))
            request.page_token = cast(Any, pages[-1]).next_page_token
        return pages

    async def _stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        timeout_s: float | None,
        metadata: Metadata = (),
    ) -> AsyncIterator[R]:
        call, sent = self._call(method, response, streams=True), self._sent(request, metadata)
        deadline, resumption = _Deadline(timeout_s), self._resumption(method)
        while True:
            with spans.calling(self.FULL_NAME, method) as traced:
                answers = call(request, timeout=deadline.left_s(), metadata=(*sent, *traced))
                try:
                    async for answer in answers:
                        if resumption is None or resumption.is_new(answer):
                            yield answer
                    if resumption is not None:
                        resumption.end()
                    return
                except grpc.RpcError as error:
                    pause_s = None if resumption is None else resumption.pause_s(error)
                    if pause_s is None or not deadline.allows(pause_s):
                        raise from_rpc_error(error) from error
                finally:
                    answers.cancel()
            await asyncio.sleep(pause_s)
