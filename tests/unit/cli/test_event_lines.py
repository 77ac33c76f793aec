"""How an event is shown in a terminal."""

from __future__ import annotations

from meshwork.cli.events import lines_of
from meshwork.router.v1 import router_pb2


def test_an_anomaly_is_a_line_that_names_the_traces_that_show_it() -> None:
    event = router_pb2.Event(
        kind=router_pb2.EVENT_KIND_ANOMALY,
        level=router_pb2.EVENT_LEVEL_WARNING,
        subject="nlp-2",
        message="minilm@1: 31% of calls fail",
        trace_ids=["a" * 32, "b" * 32],
    )
    (line,) = lines_of([event])
    words = line.plain.split()
    assert {"warning", "anomaly", "nlp-2"} <= set(words)
    assert line.plain.endswith(f"fail; traces: {'a' * 32}, {'b' * 32}")
