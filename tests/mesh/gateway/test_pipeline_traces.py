"""One call's whole tree: gateway, a pipeline, the service that its step calls, and the Redis that reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from meshwork import AsyncClient, connect_async
from meshwork.errors import FailedPrecondition, InvalidArgument, MeshworkError
from meshwork.pipeline.v1 import pipeline_pb2, pipeline_pb2_grpc
from meshwork.recommendation.v1 import recommendation_pb2
from tests.collector import Collector, attributes, collector
from tests.mesh.gateway.conftest import WAIT_S, Mesh

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUN = "meshwork.pipeline.v1.PipelineService/Run"
RECOMMEND = "meshwork.recommendation.v1.RecommendationService/Recommend"


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Mesh, Collector]]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    async with collector() as spans:
        mesh = Mesh(folder)
        mesh.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = spans.endpoint
        mesh.environment["MESHWORK_ROUTERS"] = mesh.router_address
        try:
            for service, starter in (("recommendation", "sequence"), ("pipeline", "suggest")):
                mesh.environment["MESHWORK_MODELS"] = json.dumps([{"source": f"starter://{starter}"}])
                mesh.environment["MESHWORK_REPLICA"] = f"{service}-1"
                mesh.start(f"{service}-1", "-m", f"services.{service}")
            mesh.start_router()
            async with connect_async(mesh.gateway) as client, asyncio.timeout(WAIT_S):
                while not await _answers(client):
                    await asyncio.sleep(0.05)
            yield mesh, spans
        finally:
            mesh.stop()


async def _answers(client: AsyncClient) -> bool:
    try:
        await client.pipeline.run({"user": "nobody"})
    except MeshworkError:
        return False
    return True


async def test_print(traced):
    mesh, spans = traced
    async with connect_async(mesh.gateway) as client:
        event = recommendation_pb2.Event(user="alice", item="the-second-empire")
        await client.recommendation.record_events([event])
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        stub = pipeline_pb2_grpc.PipelineServiceStub(channel)
        request = pipeline_pb2.RunRequest(inputs={"user": "alice"})
        answer = await stub.Run(request, metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"),))
    print(answer)
    await asyncio.sleep(10)
    for service, span in spans.spans:
        if span.trace_id.hex() == TRACE:
            print(service, span.name, span.kind, span.span_id.hex(), span.parent_span_id.hex(), attributes(span.attributes))
    print(mesh.log("pipeline-1")[-3000:])
