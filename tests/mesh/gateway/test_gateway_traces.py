"""The gateway's part of a trace: its span lies between the caller's and the replica's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshwork import AsyncClient, connect_async
from meshwork.errors import MeshworkError, from_rpc_error
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from tests.collector import Collector, attributes, collector
from tests.mesh.gateway.conftest import WAIT_S, Mesh
from tests.unit.serving.test_models import write_card

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Mesh, Collector]]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    async with collector() as spans:
        mesh = Mesh(folder, max_message_bytes=65536)
        mesh.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = spans.endpoint
        models = json.dumps([{"source": write_card(folder, "echo", "1", methods="[Embed]")}])
        mesh.environment |= {"MESHWORK_MODELS": models, "MESHWORK_REPLICA": "nlp-1"}
        try:
            mesh.start("nlp-1", "-m", "tests.unit.tiny_service")
            mesh.start_router()
            async with connect_async(mesh.gateway) as client:
                async with asyncio.timeout(WAIT_S):
                    while not await _answers(client):
                        await asyncio.sleep(0.05)
            yield mesh, spans
        finally:
            mesh.stop()


async def _answers(client: AsyncClient) -> bool:
    try:
        await client.nlp.embed("one")
    except MeshworkError:
        return False
    return True


async def test_a_traced_call_is_caller_gateway_replica_in_one_line(traced: tuple[Mesh, Collector]) -> None:
    mesh, spans = traced
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        sent = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)
        await nlp_pb2_grpc.NlpServiceStub(channel).Embed(nlp_pb2.EmbedRequest(texts=["one"]), metadata=sent)

    def whole(all_spans: list[Any]) -> bool:
        services = {service for service, span in all_spans if span.trace_id.hex() == TRACE}
        return {"gateway", "nlp"} <= services

    await spans.until(whole)
    own = [(service, span) for service, span in spans.spans if span.trace_id.hex() == TRACE]
    (gateway,) = [span for service, span in own if service == "gateway"]
    (server,) = [span for service, span in own if service == "nlp" and span.name.endswith("/Embed")]
    assert gateway.parent_span_id.hex() == CALLER
    assert server.parent_span_id == gateway.span_id
    assert attributes(gateway.attributes)["grpc.status_code"] == "0"


async def test_a_call_without_a_trace_gets_one_from_the_gateway(traced: tuple[Mesh, Collector]) -> None:
    mesh, spans = traced
    async with connect_async(mesh.gateway) as client:
        await client.nlp.embed("two")

    def parented(all_spans: list[Any]) -> bool:
        roots = {
            span.span_id for service, span in all_spans if service == "gateway" and not span.parent_span_id
        }
        return any(span.parent_span_id in roots for service, span in all_spans if service == "nlp")

    await spans.until(parented)


async def test_what_the_gateway_answers_itself_names_its_trace(traced: tuple[Mesh, Collector]) -> None:
    mesh, _ = traced
    sent = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        call = channel.unary_unary("/meshwork.nlp.v1.NlpService/Embed")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(bytes(100_000), metadata=sent)
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "meshwork-trace" in dict(failed.value.trailing_metadata() or ()), "the replica answered it"
    assert from_rpc_error(failed.value).trace_id == TRACE


async def test_a_rest_caller_reads_the_trace_in_the_details(traced: tuple[Mesh, Collector]) -> None:
    mesh, _ = traced
    status, _, body = await asyncio.to_thread(
        mesh.http, "POST", "/v1/nlp:embed", b"{not json", traceparent=f"00-{TRACE}-{CALLER}-01"
    )
    assert status == 400
    (request,) = json.loads(body)["details"]
    assert request["requestId"] == f"00-{TRACE}-{CALLER}-01"
