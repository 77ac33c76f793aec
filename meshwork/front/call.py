"""One call: what its caller sends, the handler's task that answers it, how it ends.

::

    begun --message--> task runs handler --answer, abort, defect--> status sent --> over
      |                     |
      '----- caller leaves, deadline passes: the task is cancelled -----------------'

The status goes out with the last message in one batch. Whatever the caller does, the core ends what
`watch` began, which holds the call until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from meshwork.errors import DETAILS_KEY, MeshworkError
from meshwork.front import core

log = logging.getLogger(__name__)

_FOREVER_S = 1e15  # the core's deadline of a call without one is some billion years away


class Call(grpc.aio.ServicerContext[Any, Any]):
    """What a handler is given as its context: `grpc.aio.ServicerContext`, of a call that `core` brought.

    Args:
        event: the core's event of the call's coming.
        handler: what answers it; None if nothing does.
        running: has the call in it while its handler runs; asyncio itself holds tasks by weak
            references only.
    """

    def __init__(
        self,
        event: core.Event,
        handler: grpc.RpcMethodHandler[Any, Any] | None,
        loop: asyncio.AbstractEventLoop,
        running: set[Call],
    ) -> None:
        self._call = event.call
        self._method: bytes = event.call_details.method
        self._deadline: float = event.call_details.deadline
        self._metadata = event.invocation_metadata
        self._handler: Any = handler
        self._loop = loop
        self._running = running
        self._task: asyncio.Task[None] | None = None
        self._opening: core.Metadata | None = ()  # the initial metadata, until it is sent
        self._trailer: core.Metadata = ()
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._aborted = False
        self._left = False  # the caller, or its deadline passed
        self._over = False  # the status is sent
        self._reading = False  # one message at a time
        self._callbacks: list[Callable[[Any], None]] = []

    def begin(self) -> None:
        """Starts to receive; the handler runs once there is a request, or at once where it reads them."""
        core.watch(self._call, self._leave)
        if self._handler is None:
            self._fail(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {self._method.decode()}")
            self._end(None)
        elif self._handler.request_streaming:
            self._run(self._requests())
        else:
            core.receive(self._call, self._received)

    def _leave(self) -> None:
        self._left = True
        if self._task is not None and not self._over:
            self._task.cancel()

    def _received(self, event: core.Event) -> None:
        raw = core.message(event)
        if raw is not None:
            if not self._left:
                self._run(raw)
        elif event.success:
            self._fail(grpc.StatusCode.UNIMPLEMENTED, "the method needs a request message")
            self._end(None)

    def _parsed(self, raw: bytes) -> Any:
        parse = self._handler.request_deserializer
        if parse is None:
            return raw
        try:
            return parse(raw)
        except Exception as error:
            self._fail(grpc.StatusCode.INVALID_ARGUMENT, "the request is not the message that it should be")
            raise grpc.aio.AbortError("the request could not be parsed") from error

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    def _run(self, given: Any) -> None:
        self._running.add(self)
        self._task = self._loop.create_task(self._answer(given))

    async def _answer(self, given: Any) -> None:
        raw: bytes | None = None
        try:
            raw = await self._answered(given if self._handler.request_streaming else self._parsed(given))
        except grpc.aio.AbortError:
            pass  # whoever raised it said with what
        except asyncio.CancelledError:
            self._fail(grpc.StatusCode.CANCELLED, "the server gave the call up")
        except Exception as error:
            log.exception("%s failed", self._method.decode())
            self._fail(grpc.StatusCode.UNKNOWN, f"the server failed: {type(error).__name__}")
        self._running.discard(self)
        self._end(raw)
        for callback in self._callbacks:
            callback(self)

    def give_up(self, error: MeshworkError) -> None:
        """Ends the call with `error` and what its handler does, if the caller still waits."""
        if self._task is None or self._over or self._left:
            return
        status = error.status()
        self._fail(error.code, status.message)
        self._trailer = ((DETAILS_KEY, status.SerializeToString()),)
        self._task.cancel()

    def _fail(self, code: grpc.StatusCode, details: str) -> None:
        if self._code is grpc.StatusCode.OK:
            self._code, self._details = code, details

    async def _answered(self, given: Any) -> bytes | None:
        """Runs the handler; gives the last message if that is still to send."""
        handler = self._handler
        if not handler.response_streaming:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            return self._serialized(await behaviour(given, self))
        answers = (handler.stream_stream if handler.request_streaming else handler.unary_stream)(given, self)
        if hasattr(answers, "__aiter__"):
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    await self.write(answer)
        else:
            await answers  # it wrote them by itself
        return None

    def _serialized(self, answer: Any) -> bytes:
        serialize = self._handler.response_serializer
        raw: bytes = serialize(answer) if serialize else answer
        return raw

    def _end(self, raw: bytes | None) -> None:
        if self._over or self._left:
            return
        self._over = True
        core.finish(
            self._call,
            opening=self._opening,
            raw=raw if self._code is grpc.StatusCode.OK else None,
            code=self._code.value[0],
            details=self._details,
            trailer=self._trailer,
        )

    async def _batch(self, begin: Callable[[core.Tag], None]) -> core.Event:
        done: asyncio.Future[core.Event] = self._loop.create_future()

        def tag(event: core.Event) -> None:
            if not done.done():
                done.set_result(event)

        begin(tag)
        return await done

    async def read(self) -> Any:
        """The caller's next message, `grpc.aio.EOF` behind the last."""
        if self._reading:
            raise grpc.aio.UsageError("another read of this call is under way")
        self._reading = True
        try:
            raw = core.message(await self._batch(lambda tag: core.receive(self._call, tag)))
        finally:
            self._reading = False
        return grpc.aio.EOF if raw is None else self._parsed(raw)

    async def write(self, message: Any) -> None:
        """Sends a message, when the caller has room for it."""
        await self._send(self._serialized(message))

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sends metadata ahead of the first message."""
        if self._opening is None:
            raise grpc.aio.UsageError("the initial metadata is sent already")
        self._opening = tuple(initial_metadata)
        await self._send(None)

    async def _send(self, raw: bytes | None) -> None:
        if self._over or self._aborted:
            raise grpc.aio.UsageError("the call has ended")
        opening, self._opening = self._opening, None
        event = await self._batch(lambda tag: core.send(self._call, tag, opening=opening, raw=raw))
        if not event.success:
            raise asyncio.CancelledError("the caller left")

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with a status that is not OK, by an exception that the handler should not catch."""
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, "aborted with OK"
        self._aborted = True
        self._code, self._details = code, details
        self._trailer = tuple(trailing_metadata) or self._trailer
        raise grpc.aio.AbortError("the handler aborted the call")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """As `abort`."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sets the metadata that goes with the status."""
        self._trailer = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What was set."""
        return self._trailer

    def invocation_metadata(self) -> Any:
        """What the caller sent: pairs of a key and its value, str or for `-bin` keys bytes."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status with which the call will end."""
        self._code = code

    def code(self) -> grpc.StatusCode:
        """The status with which the call will end."""
        return self._code

    def set_details(self, details: str) -> None:
        """Sets the text of the status."""
        self._details = details

    def details(self) -> str:
        """The text of the status."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Not served: media is compressed already."""
        raise NotImplementedError("answers are not compressed")

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed."""

    def peer(self) -> str:
        """Where the caller is, for example `ipv4:127.0.0.1:4711`."""
        return core.peer(self._call)

    def peer_identities(self) -> Sequence[bytes] | None:
        """Who the caller is by its certificate; None without one."""
        return core.peer_identities(self._call)  # type: ignore[no-any-return]

    def peer_identity_key(self) -> str | None:
        """The property of the certificate that tells."""
        key = core.peer_identity_key(self._call)
        return None if key is None else key.decode()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """The properties of the connection's security."""
        return {key.decode(): values for key, values in (core.auth_context(self._call) or {}).items()}

    def time_remaining(self) -> float:
        """Seconds until the caller's deadline; None without one, as grpc.aio has it against its stub."""
        if self._deadline > _FOREVER_S:
            return None  # type: ignore[return-value]
        return max(self._deadline - time.time(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls `callback` with this call when its handler is through."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the caller left, or its deadline passed."""
        return self._left

    def done(self) -> bool:
        """Whether the status is sent, or nobody waits for it."""
        return self._over or self._left
