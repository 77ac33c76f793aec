"""What is counted of calls, and what a scrape says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
from opentelemetry import trace
from prometheus_client import REGISTRY

from meshwork.serving.load import LoadMeter
from meshwork.serving.tally import CALL_SECONDS, CallTally, means

SERVICE = "tally"


def entry(name: str) -> Any:
    return SimpleNamespace(card=SimpleNamespace(name=name, version="2"))


def count(model: str, version: str, code: str) -> float | None:
    labels = {"service": SERVICE, "method": "Embed", "model": model, "version": version, "code": code}
    return REGISTRY.get_sample_value("meshwork_calls_total", labels)


def test_a_call_is_counted_under_the_model_that_was_found_and_under_none_if_none_was() -> None:
    load = LoadMeter()
    tally = CallTally(SERVICE, load)
    tally.begins()
    means(entry("minilm"))
    tally.ends("Embed", grpc.StatusCode.OK, 0.004)
    tally.begins()  # the one before it does not stick
    tally.ends("Embed", grpc.StatusCode.NOT_FOUND, 0.001)
    assert count("minilm", "2", "OK") == 1
    assert count("", "", "NOT_FOUND") == 1
    assert (tally.begun, load.in_flight) == (2, 0)


def test_only_a_sampled_trace_is_an_exemplar() -> None:
    tally = CallTally(SERVICE, LoadMeter())
    for number, flags in ((1, trace.TraceFlags.SAMPLED), (2, trace.TraceFlags.DEFAULT)):
        context = trace.SpanContext(number, 1, is_remote=True, trace_flags=trace.TraceFlags(flags))
        with trace.use_span(trace.NonRecordingSpan(context)):
            tally.begins()
            tally.ends("Match", grpc.StatusCode.OK, 0.15)
    (metric,) = CALL_SECONDS.collect()
    named = [
        each.exemplar for each in metric.samples if each.labels.get("method") == "Match" and each.exemplar
    ]
    assert [each.labels for each in named] == [{"trace_id": f"{1:032x}"}]
