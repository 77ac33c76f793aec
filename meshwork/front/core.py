"""grpc's C core as grpcio's own servers drive it; no other file touches grpcio's private parts.

::

    core --events--> queue --first of a burst--> thread --one wake-up--> loop: tag(event), tag(event), ...

`grpc.aio` brings each event of its completion queue to the loop by a byte through a socket, a future
and mostly a task, and a call has five events: above 200 us of CPU a call. Here a thread waits for the
first event of a burst and wakes the loop, which takes the rest from the queue by itself; the thread
waits again once the queue is empty. A burst costs one wake-up, and Python code of a call runs on the
loop's thread alone.

Importing this module fails with ImportError where grpcio does not have what is needed of it; what
that should do is pinned in tests/unit/front/test_core.py.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from grpc._cython.cygrpc import (
    BatchOperationEvent,
    Call,
    CompletionQueue,
    CompletionType,
    ReceiveCloseOnServerOperation,
    ReceiveMessageOperation,
    RequestCallEvent,
    SendInitialMetadataOperation,
    SendMessageOperation,
    SendStatusFromServerOperation,
    Server,
    auth_context,
    peer_identities,
    peer_identity_key,
)

__all__ = ["Core", "auth_context", "peer_identities", "peer_identity_key"]

log = logging.getLogger(__name__)

Event = Any  # an event of the core: what it tells depends on what was begun
Tag = Callable[[Event], None]  # called on the loop's thread with the event that ends what was begun
Metadata = Sequence[tuple[str, str | bytes]]

NEEDED: dict[Any, tuple[str, ...]] = {
    CompletionQueue: ("poll", "shutdown"),
    Server: (
        "register_completion_queue",
        "add_http2_port",
        "start",
        "request_call",
        "shutdown",
        "cancel_all_calls",
        "destroy",
    ),
    Call: ("start_server_batch", "peer"),
    RequestCallEvent: ("call", "call_details", "invocation_metadata", "success", "tag", "completion_type"),
    BatchOperationEvent: ("batch_operations", "success", "tag", "completion_type"),
    ReceiveCloseOnServerOperation: ("cancelled",),
    ReceiveMessageOperation: ("message",),
}
for _kind, _members in NEEDED.items():
    for _member in _members:
        if not hasattr(_kind, _member):
            raise ImportError(f"grpcio's {_kind.__name__} has no {_member}")

_BURST = 32  # events that the loop handles before it turns to its other work
_NO_FLAGS = 0
_NO_WAIT = 0.0  # a deadline that has passed
_COMPLETE = int(CompletionType.operation_complete)
_SHUT_DOWN = int(CompletionType.queue_shutdown)


class Core:
    """A server of the C core, its completion queue, and the thread that waits for it.

    Args:
        options: channel arguments, as for `grpc.aio.server`.
    """

    def __init__(self, options: Iterable[tuple[str, Any]]) -> None:
        self._queue = CompletionQueue()
        self._server = Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._emptied = threading.Lock()  # released by the loop once it has emptied the queue
        self._emptied.acquire()
        self._stopping = False

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Opens a port before `start`; gives its number.

        Raises:
            RuntimeError: it cannot be opened.
        """
        secret = () if credentials is None else (credentials._credentials,)  # type: ignore[attr-defined]
        port: int = self._server.add_http2_port(address.encode(), *secret)
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        return port

    def start(self, on_call: Tag) -> None:
        """Serves on the running loop: `on_call` is called with the event of each call that comes."""
        self._loop = asyncio.get_running_loop()
        self._on_call = on_call
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        self._server.start()
        self._await_call()
        self._thread = threading.Thread(target=self._wait, name="grpc-core", daemon=True)
        self._thread.start()

    def _await_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._called)

    def _called(self, event: Event) -> None:
        if not event.success:
            return  # the core refuses calls by itself once it shuts down
        if not self._stopping:
            self._await_call()
        self._on_call(event)  # one that came just before the stop is answered like the others in flight

    def stop(self) -> None:
        """Takes no more calls and tells the clients to go elsewhere; `stopped` once the last call is over."""
        if not self._stopping:
            self._stopping = True
            self._server.shutdown(self._queue, self._has_stopped)

    def _has_stopped(self, event: Event) -> None:
        self._server.destroy()
        self._queue.shutdown()
        self.stopped.set_result(None)

    def cancel_calls(self) -> None:
        """After `stop`: cancels the calls that are left."""
        self._server.cancel_all_calls()

    def _wait(self) -> None:
        while True:
            event = self._queue.poll()
            if event.completion_type == _SHUT_DOWN:
                return
            try:
                self._loop.call_soon_threadsafe(self._handle, event)
            except RuntimeError:
                return  # the loop was closed before the server was stopped
            event = None  # a call must not live until the next comes
            self._emptied.acquire()

    def _handle(self, event: Event) -> None:
        for _ in range(_BURST):
            if event.completion_type != _COMPLETE:
                self._emptied.release()
                return
            try:
                event.tag(event)
            except Exception:
                log.exception("an event of a call could not be handled")
            event = self._queue.poll(_NO_WAIT)
        self._loop.call_soon(self._handle, event)


class _WhenLeft:
    """Calls `tag` if the call ended before it was answered."""

    __slots__ = ("tag",)

    def __init__(self, tag: Callable[[], None]) -> None:
        self.tag = tag

    def __call__(self, event: Event) -> None:
        if event.batch_operations[0].cancelled():
            self.tag()


def watch(call: Any, tag: Callable[[], None]) -> None:
    """Has `tag` called if the caller leaves `call`, or its deadline passes, before it is answered."""
    _start(call, (ReceiveCloseOnServerOperation(_NO_FLAGS),), _WhenLeft(tag))


def receive(call: Any, tag: Tag) -> None:
    """Begins to wait for the caller's next message: see `message`."""
    _start(call, (ReceiveMessageOperation(_NO_FLAGS),), tag)


def message(event: Event) -> bytes | None:
    """After `receive`: the message, None if there are no more or the call has ended."""
    raw: bytes | None = event.batch_operations[0].message()
    return raw


def send(call: Any, tag: Tag, *, opening: Metadata | None, raw: bytes | None) -> None:
    """Begins to send initial metadata if `opening` is not None, and a message if `raw` is not."""
    parts: list[Any] = []
    if opening is not None:
        parts.append(SendInitialMetadataOperation(opening, _NO_FLAGS))
    if raw is not None:
        parts.append(SendMessageOperation(raw, _NO_FLAGS))
    _start(call, tuple(parts), tag)


def finish(
    call: Any, *, opening: Metadata | None, raw: bytes | None, code: int, details: str, trailer: Metadata
) -> None:
    """Sends what is left to send, and the status, in one piece."""
    parts: list[Any] = [SendStatusFromServerOperation(trailer, code, details, _NO_FLAGS)]
    if opening is not None:
        parts.append(SendInitialMetadataOperation(opening, _NO_FLAGS))
    if raw is not None:
        parts.append(SendMessageOperation(raw, _NO_FLAGS))
    _start(call, tuple(parts), _ignored)


def _start(call: Any, parts: tuple[Any, ...], tag: Tag) -> None:
    error = call.start_server_batch(parts, tag)
    if error:  # two reads at once, for example; the tag would never be called
        raise grpc.aio.UsageError(f"the core refuses this at this point of the call, with error {error}")


def _ignored(event: Event) -> None:
    """What came of the status does not matter: the end of the call tells."""


def peer(call: Any) -> str:
    """Where the caller is, for example `ipv4:127.0.0.1:4711`."""
    name: bytes = call.peer()
    return name.decode()
