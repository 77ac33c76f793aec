"""A gRPC server that answers every rpc of the contract with what it was told to, and remembers the calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from meshwork.errors import DETAILS_KEY, MeshworkError


@dataclass
class Call:
    method: str  # for example "Classify"
    request: Any
    remaining_s: float | None
    metadata: dict[str, str | bytes]


@dataclass
class Recorder(grpc.GenericRpcHandler):
    address: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, list[Message]] = field(default_factory=dict)  # by method; streams send them all
    errors: list[MeshworkError] = field(default_factory=list)  # what the next calls fail with

    def reset(self) -> None:
        self.calls.clear()
        self.answers.clear()
        self.errors.clear()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        service, _, name = handler_call_details.method.removeprefix("/").partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        request_class = message_factory.GetMessageClass(method.input_type)
        answer_class = message_factory.GetMessageClass(method.output_type)

        def answers(request: Any, context: grpc.ServicerContext) -> list[Message]:
            metadata: dict[str, str | bytes] = dict(context.invocation_metadata())
            self.calls.append(Call(name, request, context.time_remaining(), metadata))
            if self.errors:
                error = self.errors.pop(0)
                context.set_trailing_metadata(((DETAILS_KEY, error.status().SerializeToString()),))
                context.abort(error.code, str(error))
            return self.answers.get(name) or [answer_class()]

        def unary(request: Any, context: grpc.ServicerContext) -> Message:
            return answers(request, context)[0]

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
            yield from answers(request, context)

        parse, serialize = request_class.FromString, answer_class.SerializeToString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, parse, serialize)
        return grpc.unary_unary_rpc_method_handler(unary, parse, serialize)


@contextmanager
def recording() -> Iterator[Recorder]:
    recorder = Recorder()
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers=[recorder])
        recorder.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield recorder
        server.stop(None).wait()
