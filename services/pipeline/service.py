"""Answers PipelineService: a plan's run, within bounds on what may run at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message
from opentelemetry import trace

from meshwork.errors import InvalidArgument, Overloaded
from meshwork.pipeline.v1 import pipeline_pb2 as pb
from meshwork.pipeline.v1 import pipeline_pb2_grpc
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.serving.call import Call
from services.pipeline.calling import Caller
from services.pipeline.execution import Answered, execute
from services.pipeline.plan import Step
from services.pipeline.tasks.steps import Pipeline

LONGEST_REQUEST_ID = 64  # characters; with a step's name it stays below what services take
RETRY_AFTER_S = 1.0


class PipelineService(pipeline_pb2_grpc.PipelineServiceServicer):
    """The servicer."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models
        self._config = context.config
        self._caller = Caller(context.config.routers, context.config.zone)
        self._runs = 0
        self._bytes = 0

    async def Run(
        self, request: pb.RunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RunResponse:
        """Runs a pipeline."""
        if request.request_id:
            fields.text("request_id", request.request_id, longest=LONGEST_REQUEST_ID)
        try:
            inputs = json_format.MessageToDict(request.inputs)
        except json_format.SerializeToJsonError as error:  # infinity, or a value without a kind
            raise InvalidArgument(f"is no JSON: {error}", field="inputs") from error
        loaded = await self._models.acquire(Pipeline, "Run", request.model, context)
        served = loaded.served_by()
        trace.get_current_span().set_attributes(
            {
                "meshwork.model": served.model,
                "meshwork.version": served.version,
                "meshwork.replica": served.replica,
            }
        )
        own = Call.of(context)

        async def call(step: Step, made: Message) -> Message:
            return await self._caller.call(step, made, own)

        begun = time.monotonic()
        with self._running(request.ByteSize()):
            outcome = await execute(loaded.task.plan, inputs, call, request.request_id)
        served.compute_time.FromNanoseconds(int((time.monotonic() - begun) * 1e9))
        return pb.RunResponse(
            outputs=json_format.ParseDict(outcome.outputs, struct_pb2.Struct()),
            steps=[_result(each) for each in outcome.steps],
            served_by=served,
        )

    @contextmanager
    def _running(self, size: int) -> Iterator[None]:
        """Counts a run in; refuses it if as much runs already as the replica may keep."""
        config = self._config
        if self._runs >= config.queue_items or self._bytes + size > config.queue_bytes:
            raise Overloaded(
                f"{self._runs} pipelines run here, and wait for their steps", retry_after_s=RETRY_AFTER_S
            )
        self._runs += 1
        self._bytes += size
        try:
            yield
        finally:
            self._runs -= 1
            self._bytes -= size

    async def close(self) -> None:
        """Closes the channels to other services."""
        await self._caller.close()


def _result(answered: Answered) -> pb.StepResult:
    answer: Any = answered.answer
    result = pb.StepResult(name=answered.step.name, method=answered.step.path)
    result.duration.FromNanoseconds(int(answered.took_s * 1e9))
    if "served_by" in answer.DESCRIPTOR.fields_by_name:
        result.served_by.CopyFrom(answer.served_by)
    return result
