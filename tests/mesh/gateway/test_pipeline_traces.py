"""One call's whole tree: gateway, a pipeline, the service that its step calls, and the Redis that reads."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from meshwork import AsyncClient, connect_async
from meshwork.errors import MeshworkError, Unavailable
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
            await asyncio.to_thread(mesh.stop)  # the collector takes what they still have to send


async def _answers(client: AsyncClient) -> bool:
    try:
        await client.pipeline.run({"user": "nobody"})
    except MeshworkError:
        return False
    return True


async def _take_a_book(mesh: Mesh, user: str) -> None:
    async with connect_async(mesh.gateway) as client:
        event = recommendation_pb2.Event(user=user, item="the-second-empire")
        await client.recommendation.record_events([event])


def _tree(spans: list[tuple[str, trace_pb2.Span]], parent: str) -> dict[str, Any]:
    """The spans of TRACE below a span, as `service name` -> those below it."""
    return {
        f"{service} {span.name}": _tree(spans, span.span_id.hex())
        for service, span in spans
        if span.trace_id.hex() == TRACE and span.parent_span_id.hex() == parent
    }


async def test_the_tree_goes_from_the_caller_to_redis_parent_by_parent(
    traced: tuple[Mesh, Collector],
) -> None:
    mesh, spans = traced
    await _take_a_book(mesh, "alice")
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        stub = pipeline_pb2_grpc.PipelineServiceStub(channel)
        request = pipeline_pb2.RunRequest(inputs={"user": "alice"})
        answer = await stub.Run(request, metadata=(("traceparent", f"00-{TRACE}-{CALLER}-01"),))
    assert answer.outputs["why"] == "From 1 of what alice took"
    within = ("preprocess", "queue", "forward", "batch", "postprocess")
    recommended = {f"recommendation meshwork.{part}": {} for part in within}
    wanted = {
        "gateway ingress": {
            f"pipeline {RUN}": {
                f"pipeline {RECOMMEND}": {
                    f"recommendation {RECOMMEND}": {"recommendation ZRANGE": {}, **recommended}
                }
            }
        }
    }
    # The gateway's spans come each 5 s, those of the replicas when each likes.
    await spans.until(lambda came: _count(_tree(came, CALLER)) == _count(wanted))
    assert _tree(spans.spans, CALLER) == wanted
    own = [span for _, span in spans.spans if span.trace_id.hex() == TRACE]
    assert len(own) == _count(wanted), "each span once, and none outside the tree"
    named = {(span.name, span.kind): attributes(span.attributes) for span in own}
    step = named[RECOMMEND, trace_pb2.Span.SPAN_KIND_CLIENT]
    assert step["meshwork.step"] == "liked"
    assert named[RUN, trace_pb2.Span.SPAN_KIND_SERVER]["meshwork.model"] == "suggest"
    served = named[RECOMMEND, trace_pb2.Span.SPAN_KIND_SERVER]
    assert (served["meshwork.replica"], served["rpc.grpc.status_code"]) == ("recommendation-1", 0)
    assert named["ZRANGE", trace_pb2.Span.SPAN_KIND_CLIENT]["db.system"] == "redis"


def _count(tree: dict[str, Any]) -> int:
    return sum(1 + _count(below) for below in tree.values())


async def test_rest_gives_and_takes_json_and_names_the_step_that_failed(
    traced: tuple[Mesh, Collector],
) -> None:
    mesh, _ = traced
    await _take_a_book(mesh, "bob")
    status, _, body = await asyncio.to_thread(
        mesh.http, "POST", "/v1/pipeline:run", b'{"model": "suggest", "inputs": {"user": "bob"}}'
    )
    answer = json.loads(body)
    assert (status, answer["outputs"]["why"]) == (200, "From 1 of what bob took")
    assert [step["method"] for step in answer["steps"]] == ["recommendation.Recommend"]
    status, _, body = await asyncio.to_thread(
        mesh.http, "POST", "/v1/pipeline:run", b'{"inputs": {"user": " "}}'
    )
    assert (status, json.loads(body)["message"]) == (400, "step liked: user: should not be empty")


async def test_a_step_whose_service_is_away_fails_as_itself(traced: tuple[Mesh, Collector]) -> None:
    mesh, _ = traced
    mesh.processes["recommendation-1"].send_signal(signal.SIGTERM)
    await asyncio.to_thread(mesh.processes.pop("recommendation-1").wait)
    async with connect_async(mesh.gateway) as client:
        with pytest.raises(Unavailable, match="step liked: ") as failed:
            await client.pipeline.run({"user": "alice"}, timeout_s=20)
    assert failed.value.metadata["step"] == "liked"
    assert failed.value.trace_id


def test_the_replica_has_no_torch(traced: tuple[Mesh, Collector]) -> None:
    mesh, _ = traced
    mapped = {entry.path for entry in psutil.Process(mesh.processes["pipeline-1"].pid).memory_maps()}
    assert not [path for path in mapped if "torch" in path]
