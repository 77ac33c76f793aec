"""Registers a servicer so that every call ends well: parsed, answered with its load, or failed richly.

The methods are read from the service's descriptor, and the servicer's are called by their kind ::

    unary              await method(request, context) -> answer
    client streaming   await method(requests, context) -> answer
    server streaming   async for answer in method(request, context)
    both ways          async for answer in method(requests, context)

where `requests` is an async iterator whose next step raises when the caller sent bytes that are no
message. Bytes that do not parse are INVALID_ARGUMENT;
a MeshworkError becomes its rich status; anything else becomes INTERNAL with an id that the log
carries, and nothing of its text leaves the process. Each call is a span of its caller's trace, and
each error names that trace. A stream is one span, with an event for the first message each way.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf import descriptor, descriptor_pool, message, message_factory
from opentelemetry import trace

from meshwork import spans
from meshwork.errors import DETAILS_KEY, Internal, InvalidArgument, MeshworkError

log = logging.getLogger(__name__)

Metadata = tuple[tuple[str, str | bytes], ...]


class Observer(Protocol):
    """Is told of each call; gives the trailing metadata that each answer carries."""

    def begins(self) -> None:
        """A call came in."""

    def ends(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """It was answered, by the rpc of that name, after so long; CANCELLED if its caller left."""

    def trailer(self) -> Metadata:
        """Metadata to send behind the answer."""


class Unobserved:
    """Observes nothing."""

    def begins(self) -> None:
        """Does nothing."""

    def ends(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Does nothing."""

    def trailer(self) -> Metadata:
        """Nothing."""
        return ()


OUR_FAULT = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


_KINDS = {  # by whether the caller, and whether the servicer, sends a stream
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def add_servicer(
    server: grpc.aio.Server, full_name: str, servicer: object, observer: Observer | None = None
) -> None:
    """Lets `server` answer every method of the service `full_name` by `servicer`'s of that name."""
    service = descriptor_pool.Default().FindServiceByName(full_name)
    watching = observer or Unobserved()
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), watching) for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(full_name, handlers),))


def _handler(
    method: descriptor.MethodDescriptor, behaviour: Callable[..., Any], observer: Observer
) -> grpc.RpcMethodHandler[Any, Any]:
    request_class = message_factory.GetMessageClass(method.input_type)
    service = method.containing_service.full_name

    def parse(raw: bytes) -> message.Message:
        try:
            return request_class.FromString(raw)
        except message.DecodeError as error:
            raise InvalidArgument(
                f"the request is not a {method.input_type.full_name} message: {error}",
                reason="MALFORMED_MESSAGE",
            ) from error

    async def parse_all(raws: AsyncIterator[bytes]) -> AsyncIterator[message.Message]:
        count = 0
        async for raw in raws:
            count += 1
            if count == 1:
                trace.get_current_span().add_event("first request")
            yield parse(raw)
        trace.get_current_span().set_attribute("rpc.request.count", count)

    given: Callable[[Any], Any] = parse_all if method.client_streaming else parse

    async def one(raw: Any, context: grpc.aio.ServicerContext[bytes, Any]) -> message.Message:
        began = time.perf_counter()
        observer.begins()
        code = grpc.StatusCode.CANCELLED
        with spans.served(service, method.name, context.invocation_metadata()) as span:
            try:
                answer: message.Message = await behaviour(given(raw), context)
                code = grpc.StatusCode.OK
            except Exception as error:
                known = as_meshwork_error(error, f"{method.full_name}")
                code = known.code
                spans.ended(span, known.code, str(known))
                await abort(context, known, observer.trailer())
            finally:
                observer.ends(method.name, code, time.perf_counter() - began)
            spans.ended(span, grpc.StatusCode.OK)
        context.set_trailing_metadata(observer.trailer())
        return answer

    async def many(raw: Any, context: grpc.aio.ServicerContext[bytes, Any]) -> AsyncIterator[message.Message]:
        began = time.perf_counter()
        observer.begins()
        code = grpc.StatusCode.CANCELLED
        count = 0
        with spans.served(service, method.name, context.invocation_metadata()) as span:
            try:
                async with contextlib.aclosing(behaviour(given(raw), context)) as answers:
                    async for answer in answers:
                        if not count:
                            span.add_event("first answer")
                        count += 1
                        yield answer
                code = grpc.StatusCode.OK
            except Exception as error:
                known = as_meshwork_error(error, f"{method.full_name}")
                code = known.code
                spans.ended(span, known.code, str(known))
                await abort(context, known, observer.trailer())
            finally:
                span.set_attribute("rpc.response.count", count)
                observer.ends(method.name, code, time.perf_counter() - began)
            spans.ended(span, grpc.StatusCode.OK)
        context.set_trailing_metadata(observer.trailer())

    make = _KINDS[method.client_streaming, method.server_streaming]
    return make(many if method.server_streaming else one, None, _serialize)


def _serialize(answer: message.Message) -> bytes:
    return answer.SerializeToString()


def as_meshwork_error(error: Exception, doing: str) -> MeshworkError:
    """`error` itself if it is ours; otherwise an Internal whose id the log carries beside the cause."""
    if isinstance(error, MeshworkError):
        return error
    identity = uuid.uuid4().hex[:12]
    log.error("%s failed, error id %s", doing, identity, exc_info=error)
    return Internal(
        f"an internal error; the log of the replica has it under id {identity}", metadata={"id": identity}
    )


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: MeshworkError, trailer: Metadata = ()
) -> NoReturn:
    """Ends the call with `error` and its details, the trace that shows it among them."""
    status = error.status(spans.trace_id())
    details = (DETAILS_KEY, status.SerializeToString())
    await context.abort(error.code, status.message, trailing_metadata=(details, *trailer))
    raise AssertionError("abort returned")
