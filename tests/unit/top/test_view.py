from __future__ import annotations

import pytest
from rich.text import Text

from meshwork.router.v1 import router_pb2
from meshwork.top.view import (
    COLUMNS,
    SORTS,
    WIDTH,
    Picture,
    View,
    cells,
    fitting,
    in_order,
    notable,
    number,
    rows,
    summary,
)

READY = router_pb2.REPLICA_STATE_READY
P50 = next(column for column in SORTS if column.head == "P50ms")


def replica(
    name: str, service: str = "vision", state: int = READY, model: str = "digits"
) -> router_pb2.Replica:
    made = router_pb2.Replica(name=name, service=service, devices=["cpu"])
    made.state = state  # type: ignore[assignment]
    made.models.add(name=model, version="1", device="cpu", state=router_pb2.MODEL_STATE_READY)
    return made


def picture(p50_ms: dict[str, float], **extra: router_pb2.Replica) -> Picture:
    """Replicas of vision with their medians, 10 calls a second each, and others."""
    load = router_pb2.WatchLoadResponse(window_s=10)
    load.loads.add(service="vision", calls_rps=10.0 * len(p50_ms), errors_rps=0.5)
    for name, value in p50_ms.items():
        load.loads.add(service="vision", replica=name, calls_rps=10, p50_ms=value, p99_ms=value * 2)
    load.loads.add(service="vision", model="digits@1", calls_rps=29)
    others = tuple(extra.values())
    return Picture(
        mesh=router_pb2.GetMeshResponse(name="default"),
        replicas=(*others, *(replica(name) for name in p50_ms)),
        load=load,
    )


def test_the_table_fits_80_columns_beside_a_scroll_bar() -> None:
    assert WIDTH == 79


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "."),
        (0.004, "0.00"),
        (9.99, "9.99"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345, "12345"),
        (99999.6, "100k"),
        (1.5e6, "1500k"),
        (3e9, "3000M"),
        (1e15, "lots"),
    ],
)
def test_a_figure_takes_at_most_five_columns(value: float, text: str) -> None:
    assert number(value) == text
    assert len(text) <= 5


def test_every_cell_fits_its_column_and_a_long_name_is_cut() -> None:
    found = rows(picture({"recommendation-1f3a77": 123.0}), View.REPLICAS)
    shown = cells(found[0])
    assert all(cell.cell_len <= column.width for cell, column in zip(shown, COLUMNS, strict=True))
    assert shown[0] == Text("recommendation-1f3…")


def test_a_replica_much_slower_than_its_peers_is_marked() -> None:
    found = rows(picture({"vision-1": 9.0, "vision-2": 90.0, "vision-3": 10.0}), View.REPLICAS)
    assert [row.striking for row in found] == [False, True, False]


def test_small_or_lone_figures_mark_nobody() -> None:
    assert not any(row.striking for row in rows(picture({"vision-1": 0.1, "vision-2": 2.0}), View.REPLICAS))
    assert not any(row.striking for row in rows(picture({"vision-1": 900.0}), View.REPLICAS))


def test_an_ejected_replica_shows_why_and_counts_as_out() -> None:
    out = replica("vision-9")
    out.ejection.reason = router_pb2.EJECTION_REASON_SLOW
    seen = picture({"vision-1": 9.0}, out=out)
    assert [(row.state, row.style) for row in rows(seen, View.REPLICAS)] == [
        ("ready", "green"),
        ("slow", "bold red"),
    ]
    assert rows(seen, View.SERVICES)[0].state == "1/2"
    assert "1 ejected" in summary(seen)


def test_a_replica_that_does_not_say_what_it_counts_is_silent() -> None:
    seen = picture({"vision-1": 9.0})
    seen.load.silent_replicas.append("vision-1")
    assert rows(seen, View.REPLICAS)[0].state == "silent"


def test_models_and_services_have_the_figures_of_all_their_replicas() -> None:
    seen = picture({"vision-1": 9.0, "vision-2": 9.0}, other=replica("nlp-1", "nlp", model="minilm"))
    models = [(row.name, row.state, row.load.calls_rps) for row in rows(seen, View.MODELS)]
    assert models == [("minilm@1", "1/1", 0), ("digits@1", "2/2", 29)]
    services = [(row.name, row.state, row.load.calls_rps) for row in rows(seen, View.SERVICES)]
    assert services == [("nlp", "1/1", 0), ("vision", "2/2", 20)]


def test_rows_sort_by_a_figure_and_equal_ones_by_name() -> None:
    seen = picture({"vision-2": 9.0, "vision-1": 9.0, "vision-3": 10.0})
    found = in_order(rows(seen, View.REPLICAS), P50, falling=True)
    assert [row.name for row in found] == ["vision-3", "vision-1", "vision-2"]
    assert [row.name for row in in_order(found, P50, falling=False)] == ["vision-1", "vision-2", "vision-3"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["nlp-1", "vision-1"]),
        ("VISION", ["vision-1"]),
        ("minilm", ["nlp-1"]),
        ("ready cpu", ["nlp-1", "vision-1"]),
        ("ready cuda", []),
    ],
)
def test_a_filter_wants_every_word(words: str, names: list[str]) -> None:
    seen = picture({"vision-1": 9.0}, other=replica("nlp-1", "nlp", model="minilm"))
    assert [row.name for row in fitting(rows(seen, View.REPLICAS), words, seen.replicas)] == names


def test_notable_are_anomalies_ejections_returns_and_warnings() -> None:
    kinds = [
        router_pb2.EVENT_KIND_REPLICA_UP,
        router_pb2.EVENT_KIND_ANOMALY,
        router_pb2.EVENT_KIND_REPLICA_EJECTED,
        router_pb2.EVENT_KIND_MODEL,
    ]
    events = [router_pb2.Event(kind=kind, level=router_pb2.EVENT_LEVEL_INFO) for kind in kinds]
    events.append(router_pb2.Event(level=router_pb2.EVENT_LEVEL_ERROR))
    assert notable(events, 5) == [events[1], events[2], events[4]]
    assert notable(events, 1) == [events[4]]


def test_before_there_are_rates_the_summary_says_so() -> None:
    seen = picture({"vision-1": 9.0})
    assert summary(seen) == "1/1 replicas ready, 10.0 calls/s, 0.5 errors/s, over 10 s"
    seen.load.window_s = 0
    assert summary(seen) == "1/1 replicas ready, measuring"
