"""What the generated clients are made of: one call, its deadline, its errors, its arguments."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import grpc
from google.protobuf.message import Message

from meshwork.errors import InvalidArgument, from_rpc_error
from meshwork.names import MODEL_HEADER, header_value

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


def _serialized(request: Message) -> bytes:
    return request.SerializeToString()


class _Service:
    """What sync and asyncio clients share."""

    FULL_NAME: ClassVar[str]

    def __init__(self, channel: Any, timeout_s: float | None, metadata: Metadata = ()) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._metadata = metadata
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

    def _sent(self, request: Message) -> Metadata:
        """The metadata of a call: the client's, and the model by which it is routed."""
        model = getattr(request, "model", "")
        return (*self._metadata, (MODEL_HEADER, header_value(model))) if model else self._metadata

    def _deadline(self, timeout_s: float | None) -> float | None:
        return self._timeout_s if timeout_s is None else timeout_s


class SyncService(_Service):
    """A service, called from threads."""

    def _unary(self, method: str, request: Message, response: type[R], timeout_s: float | None) -> R:
        try:
            answer = self._call(method, response)(
                request, timeout=self._deadline(timeout_s), metadata=self._sent(request)
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return cast(R, answer)

    def _pages(self, method: str, request: Any, response: type[R], timeout_s: float | None) -> list[R]:
        pages: list[R] = []
        while not pages or request.page_token:
            pages.append(self._unary(method, request, response, timeout_s))
            request.page_token = cast(Any, pages[-1]).next_page_token
        return pages

    def _stream(
        self, method: str, request: Message, response: type[R], timeout_s: float | None
    ) -> Iterator[R]:
        call = self._call(method, response, streams=True)
        answers = call(request, timeout=timeout_s, metadata=self._sent(request))
        try:
            yield from answers
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            answers.cancel()


class AsyncService(_Service):
    """A service, called from asyncio."""

    async def _unary(self, method: str, request: Message, response: type[R], timeout_s: float | None) -> R:
        try:
            answer = await self._call(method, response)(
                request, timeout=self._deadline(timeout_s), metadata=self._sent(request)
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return cast(R, answer)

    async def _pages(self, method: str, request: Any, response: type[R], timeout_s: float | None) -> list[R]:
        pages: list[R] = []
        while not pages or request.page_token:
            pages.append(await self._unary(method, request, response, timeout_s))
            request.page_token = cast(Any, pages[-1]).next_page_token
        return pages

    async def _stream(
        self, method: str, request: Message, response: type[R], timeout_s: float | None
    ) -> AsyncIterator[R]:
        call = self._call(method, response, streams=True)
        answers = call(request, timeout=timeout_s, metadata=self._sent(request))
        try:
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            answers.cancel()
