from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from redis.asyncio import Redis

from meshwork.errors import InvalidArgument, NotFound
from meshwork.state.keys import Keys
from meshwork.state.traces import Traces
from meshwork.trace.v1 import trace_pb2 as pb
from services.router.tail import BURST_S, HOLD_S, LONGEST_S, Tail
from services.router.traces import WRITE_S, TraceService, TraceStore, in_order, part

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


def sent(service: str, *spans: trace_pb2.Span, instance: str = "") -> trace_pb2.ResourceSpans:
    resource = trace_pb2.ResourceSpans(scope_spans=[trace_pb2.ScopeSpans(spans=spans)])
    resource.resource.attributes.append(text("service.name", service))
    if instance:
        resource.resource.attributes.append(text("service.instance.id", instance))
    return resource


async def add(traces: Traces, *resources: trace_pb2.ResourceSpans) -> None:
    tail = Tail(slow_s=1.0, per_s=1000)
    assert all(map(tail.take, resources))
    await traces.add([part(identity, entries) for identity, entries in tail.kept().items()])


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def name(trace: int) -> str:
    return f"{trace:032x}"


async def test_a_trace_whose_spans_come_apart_is_shown_as_one(redis: Redis) -> None:
    traces = Traces(redis, KEYS)
    # The replica's spans come before the gateway's, which has the root.
    await add(traces, sent("nlp", span(1, 3, 2, begin_s=0.02), span(1, 2, 1, begin_s=0.01)))
    root = span(1, 1, took_s=0.5)
    root.attributes.append(text("guid:x-request-id", "abc-def"))
    await add(traces, sent("gateway", root))
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
    await add(
        traces,
        sent("nlp", span(1, 1, begin_s=1), instance="nlp-1"),
        sent("nlp", span(2, 1, begin_s=2, failed=True), instance="nlp-2"),
        sent("vision", span(3, 1, begin_s=3, took_s=2.0), instance="vision-1"),
    )
    service = TraceService(traces)

    async def listed(**wanted: object) -> list[str]:
        answer = await service.ListTraces(pb.ListTracesRequest(**wanted), CALLER)  # type: ignore[arg-type]
        return [each.trace_id for each in answer.traces]

    assert await listed() == [name(3), name(2), name(1)]
    assert await listed(service="nlp") == [name(2), name(1)]
    assert await listed(instance="nlp-2") == [name(2)]
    assert await listed(failed=True) == [name(2)]
    assert await listed(min_duration_ms=1500) == [name(3)]
    with pytest.raises(InvalidArgument):
        await listed(min_duration_ms=-1)


async def test_ordinary_traces_make_room_before_failed_and_slow_ones(redis: Redis) -> None:
    traces = Traces(redis, KEYS, bound_bytes=4000)
    await add(traces, sent("nlp", span(1, 1, failed=True)))
    await add(traces, sent("nlp", span(2, 1, took_s=5.0)))
    for number in range(3, 103):
        await add(traces, sent("nlp", span(number, 1, begin_s=number)))
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
        await add(traces, sent("nlp", span(number, 1, begin_s=number, failed=True)))
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


def test_of_many_ordinary_traces_some_are_kept_and_failed_and_slow_ones_all() -> None:
    clock = Clock()
    tail = Tail(slow_s=1.0, per_s=2, clock=clock)
    for number in range(1, 101):
        tail.take(sent("nlp", span(number, 1, failed=number == 90, took_s=2.0 if number == 95 else 0.1)))
    kept = {int.from_bytes(identity) for identity in tail.kept()}
    assert kept == {*range(1, int(2 * BURST_S) + 1), 90, 95}
    assert not tail.due()
    clock.now += 1.0
    for number in range(101, 201):
        tail.take(sent("nlp", span(number, 1)))
    assert {int.from_bytes(identity) for identity in tail.kept()} == {101, 102}
    clock.now += HOLD_S - 1.0
    due = tail.due()
    assert len(due) == 100 - len(kept)
    tail.unknown(due)
    assert tail.let_go == len(due)


def test_spans_that_came_before_the_one_that_failed_are_kept_with_it() -> None:
    tail = Tail(slow_s=1.0, per_s=0, clock=Clock())
    tail.take(sent("nlp", span(1, 3, 2), span(2, 3, 2)))
    tail.take(sent("vision", span(1, 2, 1)))
    assert not tail.kept()
    tail.take(sent("gateway", span(1, 1, failed=True)))
    assert [(len(entries), identity.hex()) for identity, entries in tail.kept().items()] == [(3, name(1))]
    tail.take(sent("nlp", span(1, 4, 2)))  # late
    assert [len(entries) for entries in tail.kept().values()] == [1]


def part_of_running(trace: int, number: int, parent: int) -> trace_pb2.Span:
    made = span(trace, number, parent)
    made.flags = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return made


def test_the_first_spans_of_a_call_of_minutes_are_kept_with_it() -> None:
    clock = Clock()
    tail = Tail(slow_s=1.0, per_s=0, clock=clock)
    tail.take(sent("nlp", part_of_running(1, 3, 2), part_of_running(2, 3, 2), span(2, 2, 1), span(3, 3, 2)))
    clock.now += HOLD_S
    due = tail.due()
    assert len(due) == 3
    tail.take(sent("nlp", part_of_running(1, 4, 2)))  # while Redis was asked
    tail.unknown(due)
    assert tail.let_go == 2  # all of the second trace has ended, and of the third nothing says that it runs
    clock.now += 10 * HOLD_S
    tail.unknown(tail.due())
    assert not tail.kept()
    tail.take(sent("nlp", span(1, 2, 1, took_s=100.0)))
    assert [len(entries) for entries in tail.kept().values()] == [3]


def test_spans_of_a_process_that_was_killed_are_not_held_forever() -> None:
    clock = Clock()
    tail = Tail(slow_s=1.0, per_s=0, clock=clock)
    tail.take(sent("nlp", part_of_running(1, 3, 2)))
    turns = 0
    while not tail.let_go:
        clock.now += HOLD_S
        tail.unknown(tail.due())
        turns += 1
    assert turns == LONGEST_S / HOLD_S
    assert not tail.due()


def test_together_slow_spans_make_a_slow_trace() -> None:
    tail = Tail(slow_s=1.0, per_s=0, clock=Clock())
    tail.take(sent("nlp", span(1, 2, 1, begin_s=0.0, took_s=0.6)))
    assert not tail.kept()
    tail.take(sent("nlp", span(1, 3, 1, begin_s=0.6, took_s=0.6)))
    assert [len(entries) for entries in tail.kept().values()] == [2]


def test_spans_are_bounded_and_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.tail.MOST_HELD", 10)
    clock = Clock()
    tail = Tail(slow_s=1.0, per_s=0, clock=clock)
    for number in range(1, 21):
        clock.now += 0.1
        assert tail.take(sent("nlp", span(number, 1)))
    assert tail.let_go == 10
    clock.now += HOLD_S
    assert [int.from_bytes(identity) for identity in tail.due()] == [*range(11, 21)]
    # What is kept and waits for Redis is not let go: more is refused.
    assert tail.take(sent("nlp", *(span(30, number, failed=True) for number in range(10))))
    assert not tail.take(sent("nlp", span(31, 1)))
    assert len(tail.kept()) == 1
    assert tail.take(sent("nlp", span(31, 1)))


def test_a_trace_whose_id_is_none_is_no_trace() -> None:
    tail = Tail(slow_s=1.0, per_s=10)
    assert tail.take(sent("nlp", trace_pb2.Span(trace_id=b"short"), trace_pb2.Span()))
    assert not tail.kept()


async def test_what_one_router_keeps_of_a_trace_the_others_keep_too(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.router.tail.HOLD_S", 4 * WRITE_S)
    stores = [TraceStore(Traces(redis, KEYS), Tail(slow_s=1.0, per_s=0)) for _ in range(2)]
    running = [asyncio.create_task(store.run()) for store in stores]
    try:
        for store, resource in zip(
            stores,
            (sent("nlp", span(1, 2, 1), span(2, 2, 1)), sent("gateway", span(1, 1, failed=True))),
            strict=True,
        ):
            request = trace_service_pb2.ExportTraceServiceRequest(resource_spans=[resource])
            answer = await store.Export(request, CALLER)  # type: ignore[arg-type]
            assert not answer.partial_success.rejected_spans
        async with asyncio.timeout(20):
            while not stores[0].let_go:
                await asyncio.sleep(0.05)
        found = await TraceService(Traces(redis, KEYS)).GetTrace(pb.GetTraceRequest(trace_id=name(1)), CALLER)  # type: ignore[arg-type]
    finally:
        for task in running:
            task.cancel()
    assert [each.service for each in found.spans] == ["gateway", "nlp"]
    assert stores[0].let_go == 1
