"""A replica's part of a trace, as a real OTLP endpoint receives it."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from meshwork.errors import DETAILS_KEY
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.telemetry import endpoint
from tests.collector import attributes, collector
from tests.unit.test_server import NOWHERE, models, replica

__all__ = ["models"]

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)
PARTS = ["meshwork.preprocess", "meshwork.queue", "meshwork.forward", "meshwork.postprocess"]
SERVER = "meshwork.nlp.v1.NlpService/Embed"


def texts(*given: str) -> nlp_pb2.EmbedRequest:
    return nlp_pb2.EmbedRequest(texts=given)


async def test_a_call_is_one_span_of_its_callers_trace_with_its_parts_below(models: str) -> None:
    async with (
        collector() as spans,
        replica(models=models, redis_url=NOWHERE, OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint) as process,
    ):
        async with grpc.aio.insecure_channel(await process.said("ready on ")) as channel:
            await nlp_pb2_grpc.NlpServiceStub(channel).Embed(texts("one"), metadata=SENT)
        process.signal()
        await process.ended()
        assert {service for service, _ in spans.spans} == {"nlp"}
        found = {span.name: span for _, span in spans.spans}
        assert sorted(found) == sorted([SERVER, "meshwork.batch", *PARTS])
        assert {span.trace_id.hex() for span in found.values()} == {TRACE}
        server = found[SERVER]
        assert server.parent_span_id.hex() == CALLER
        assert server.kind == trace_pb2.Span.SPAN_KIND_SERVER
        assert all(found[name].parent_span_id == server.span_id for name in (*PARTS, "meshwork.batch"))
        ends = [(found[name].start_time_unix_nano, found[name].end_time_unix_nano) for name in PARTS]
        assert all(begun <= ended for begun, ended in ends)
        assert [begun for begun, _ in ends] == sorted(begun for begun, _ in ends)
        batch = found["meshwork.batch"].span_id
        assert [link.span_id for link in found["meshwork.batch"].links] == [server.span_id]
        assert [link.span_id for link in found["meshwork.forward"].links] == [batch]
        assert [link.span_id for link in server.links] == [batch]
        facts = attributes(server.attributes)
        assert (facts["meshwork.model"], facts["meshwork.version"], facts["meshwork.batch_size"]) == (
            "echo",
            "1",
            1,
        )
        assert facts["rpc.grpc.status_code"] == 0


async def test_calls_that_share_a_batch_are_linked_by_its_one_span(models: str) -> None:
    async with (
        collector() as spans,
        replica(models=models, redis_url=NOWHERE, OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint) as process,
    ):
        async with grpc.aio.insecure_channel(await process.said("ready on ")) as channel:
            stub = nlp_pb2_grpc.NlpServiceStub(channel)
            answers = await asyncio.gather(*(stub.Embed(texts(str(number))) for number in range(100)))
        process.signal()
        await process.ended()
    together = max(answer.served_by.batch_size for answer in answers)
    assert together > 1
    batches = [span for _, span in spans.spans if span.name == "meshwork.batch"]
    shared = max(batches, key=lambda span: len(span.links))
    assert len(shared.links) == together
    servers = {span.span_id: span for _, span in spans.spans if span.name == SERVER}
    assert len(servers) == len(answers)
    for link in shared.links:
        assert shared.span_id in [back.span_id for back in servers[link.span_id].links]


@pytest.mark.parametrize("traced", [True, False])
async def test_an_error_names_its_trace_whether_or_not_spans_are_made(models: str, traced: bool) -> None:
    async with collector() as spans:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": spans.endpoint} if traced else {}
        async with (
            replica(models=models, redis_url=NOWHERE, **settings) as process,
            grpc.aio.insecure_channel(await process.said("ready on ")) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                request = nlp_pb2.EmbedRequest(texts=["one"], model="nobody")
                await nlp_pb2_grpc.NlpServiceStub(channel).Embed(request, metadata=SENT)
    trailing = dict(failed.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing[DETAILS_KEY])
    named = error_details_pb2.RequestInfo()
    assert any(detail.Unpack(named) for detail in status.details)
    assert named.request_id == TRACE


async def test_what_a_replica_does_by_itself_makes_no_span(models: str) -> None:
    async with (
        collector() as spans,
        replica(models=models, redis_url=NOWHERE, OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint) as process,
    ):
        await process.said("ready on ")
        process.signal()
        await process.ended()
        assert spans.spans == []


async def test_of_several_endpoints_one_that_answers_gets_the_spans(models: str) -> None:
    async with collector() as spans:
        several = endpoint(["127.0.0.1:1", spans.endpoint.removeprefix("http://")])
        async with replica(models=models, redis_url=NOWHERE, OTEL_EXPORTER_OTLP_ENDPOINT=several) as process:
            async with grpc.aio.insecure_channel(await process.said("ready on ")) as channel:
                await nlp_pb2_grpc.NlpServiceStub(channel).Embed(texts("one"), metadata=SENT)
            process.signal()
            await process.ended()
        assert SERVER in {span.name for _, span in spans.spans}
