from __future__ import annotations

import pytest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from redis.asyncio import Redis

from meshwork.errors import InvalidArgument, NotFound
from meshwork.state.keys import Keys
from meshwork.state.traces import Traces
from meshwork.trace.v1 import trace_pb2 as pb
from services.router.traces import TraceService, in_order, parts

KEYS = Keys(mesh="test")
S = 1_000_000_000
CALLER: object = None


def span(
    trace: int,
    number: int,
    parent: int = 0,
    *,
    begin_s: float = 0.0,
    took_s: float = 0.1,
    failed: bool = False,
) -> trace_pb2.Span:
    made = trace_pb2.Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=f"span {number}",
        start_time_unix_nano=int((1000 + begin_s) * S),
        end_time_unix_nano=int((1000 + begin_s + took_s) * S),
    )
    if failed:
        made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        made.status.message = "broke"
    return made


def text(key: str, value: str) -> common_pb2.KeyValue:
    return common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value))


def sent(service: str, *spans: trace_pb2.Span) -> trace_pb2.ResourceSpans:
    resource = trace_pb2.ResourceSpans(scope_spans=[trace_pb2.ScopeSpans(spans=spans)])
    resource.resource.attributes.append(text("service.name", service))
    return resource


def name(trace: int) -> str:
    return f"{trace:032x}"


async def test_a_trace_whose_spans_come_apart_is_shown_as_one(redis: Redis) -> None:
    traces = Traces(redis, KEYS)
    # The replica's spans come before the gateway's, which has the root.
    await traces.add(list(parts([sent("nlp", span(1, 3, 2, begin_s=0.02), span(1, 2, 1, begin_s=0.01))])))
    root = span(1, 1, took_s=0.5)
    root.attributes.append(text("guid:x-request-id", "abc-def"))
    await traces.add(list(parts([sent("gateway", root)])))
    service = TraceService(traces)
    for asked in (name(1), "abc-def", f"00-{name(1)}-{1:016x}-01"):
        found = await service.GetTrace(pb.GetTraceRequest(trace_id=asked), CALLER)  # type: ignore[arg-type]
        assert [(each.name, each.service) for each in found.spans] == [
            ("span 1", "gateway"),
            ("span 2", "nlp"),
            ("span 3", "nlp"),
        ]
        assert found.summary.name == "span 1"
        assert list(found.summary.services) == ["gateway", "nlp"]
        assert found.summary.duration.ToMilliseconds() == 500
        assert found.summary.spans == 3


async def test_traces_are_found_by_service_failure_and_duration_the_newest_first(redis: Redis) -> None:
    traces = Traces(redis, KEYS)
    await traces.add(
        list(
            parts(
                [
                    sent("nlp", span(1, 1, begin_s=1)),
                    sent("nlp", span(2, 1, begin_s=2, failed=True)),
                    sent("vision", span(3, 1, begin_s=3, took_s=2.0)),
                ]
            )
        )
    )
    service = TraceService(traces)

    async def listed(**wanted: object) -> list[str]:
        answer = await service.ListTraces(pb.ListTracesRequest(**wanted), CALLER)  # type: ignore[arg-type]
        return [each.trace_id for each in answer.traces]

    assert await listed() == [name(3), name(2), name(1)]
    assert await listed(service="nlp") == [name(2), name(1)]
    assert await listed(failed=True) == [name(2)]
    assert await listed(min_duration_ms=1500) == [name(3)]
    with pytest.raises(InvalidArgument):
        await listed(min_duration_ms=-1)


async def test_ordinary_traces_make_room_before_failed_and_slow_ones(redis: Redis) -> None:
    traces = Traces(redis, KEYS, bound_bytes=4000)
    await traces.add(list(parts([sent("nlp", span(1, 1, failed=True))])))
    await traces.add(list(parts([sent("nlp", span(2, 1, took_s=5.0))])))
    for number in range(3, 103):
        await traces.add(list(parts([sent("nlp", span(number, 1, begin_s=number))])))
    kept = [summary.trace_id async for summary in traces.summaries()]
    assert {name(1), name(2)} < set(kept)
    assert name(102) in kept
    assert name(3) not in kept
    sizes = await redis.hgetall(KEYS.trace_bytes)
    assert 0 < int(sizes["plain"]) + int(sizes["kept"]) <= 4000
    assert await traces.get(name(3)) is None
    assert not await redis.exists(KEYS.trace(name(3)))


async def test_failed_traces_too_are_bounded(redis: Redis) -> None:
    traces = Traces(redis, KEYS, bound_bytes=4000)
    for number in range(1, 101):
        await traces.add(list(parts([sent("nlp", span(number, 1, begin_s=number, failed=True))])))
    kept = [summary.trace_id async for summary in traces.summaries(kept_only=True)]
    assert name(100) in kept
    assert 0 < len(kept) < 100


async def test_a_trace_that_is_not_kept_is_not_found(redis: Redis) -> None:
    with pytest.raises(NotFound):
        await TraceService(Traces(redis, KEYS)).GetTrace(pb.GetTraceRequest(trace_id="ff"), CALLER)  # type: ignore[arg-type]


def test_spans_that_claim_to_be_each_others_parents_are_shown_all_the_same() -> None:
    spans = [
        pb.Span(span_id="a", parent_span_id="b"),
        pb.Span(span_id="b", parent_span_id="a"),
        pb.Span(span_id="c", parent_span_id="c"),
        pb.Span(span_id="d", parent_span_id="elsewhere"),
    ]
    assert {span.span_id for span in in_order(spans)} == {"a", "b", "c", "d"}
