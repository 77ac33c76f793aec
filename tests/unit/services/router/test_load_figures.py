from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.load_figures import loads, quantile, rates, read

BEFORE = """# TYPE meshwork_calls counter
meshwork_calls_total{service="nlp",method="Embed",model="a",version="1",code="OK"} 100.0
meshwork_calls_total{service="nlp",method="Embed",model="",version="",code="INVALID_ARGUMENT"} 0.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="0.01"} 90.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="0.02"} 100.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="+Inf"} 100.0
meshwork_device_busy_seconds_total{device="cpu"} 5.0
meshwork_batch_items_sum{model="a@1",device="cpu"} 100.0
meshwork_batch_items_count{model="a@1",device="cpu"} 100.0
meshwork_queued_items{model="a",version="1"} 0.0
meshwork_loop_lag 7
"""
AFTER = """
meshwork_calls_total{service="nlp",method="Embed",model="a",version="1",code="OK"} 140.0
meshwork_calls_total{service="nlp",method="Embed",model="a",version="1",code="INTERNAL"} 4.0
meshwork_calls_total{service="nlp",method="Embed",model="",version="",code="INVALID_ARGUMENT"} 2.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="0.01"} 112.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="0.02"} 144.0
meshwork_call_seconds_bucket{service="nlp",method="Embed",model="a",le="+Inf"} 144.0
meshwork_device_busy_seconds_total{device="cpu"} 6.5
meshwork_batch_items_sum{model="a@1",device="cpu"} 180.0
meshwork_batch_items_count{model="a@1",device="cpu"} 120.0
meshwork_queued_items{model="a",version="1"} 3.0
meshwork_device_memory_bytes{device="cpu",model="a@1"} 1e6
"""


def test_two_scrapes_give_what_was_done_between_them() -> None:
    found = rates(read(BEFORE), read(AFTER), 2.0)
    model = found["a@1"].load("nlp", "nlp-1", "a@1")
    assert (model.calls_rps, model.errors_rps, model.batch_items) == (22.0, 2.0, 4.0)
    assert (model.queued_items, model.memory_bytes) == (3, 1_000_000)
    assert model.p50_ms == pytest.approx(10.0)
    assert model.p99_ms == pytest.approx(10 + 10 * (0.99 * 44 - 22) / 22)
    whole = found[""].load("nlp", "nlp-1")
    assert (whole.calls_rps, whole.busy_share) == (23.0, 0.75)


def test_the_first_scrape_gives_what_waits_and_no_rates() -> None:
    load = rates({}, read(AFTER), 0.0)[""].load("nlp")
    assert (load.calls_rps, load.p99_ms, load.queued_items) == (0.0, 0.0, 3)


def test_a_count_that_fell_began_anew() -> None:
    assert rates(read(AFTER), read(BEFORE), 1.0)["a@1"].calls == 100.0


def test_a_latency_without_a_version_is_that_of_each_version_of_its_model() -> None:
    two = AFTER + 'meshwork_calls_total{service="nlp",model="a",version="2",code="OK"} 10\n'
    found = rates(read(BEFORE), read(two), 1.0)
    assert found["a@2"].load("nlp").p50_ms == found["a@1"].load("nlp").p50_ms > 0
    assert found[""].calls == 56.0


def test_the_loads_of_replicas_add_up_to_those_of_models_and_services() -> None:
    own = rates(read(BEFORE), read(AFTER), 2.0)
    found = loads({"nlp-1": ("nlp", own), "nlp-2": ("nlp", own)})
    keys = [(each.service, each.replica, each.model) for each in found]
    expected = [(replica, model) for replica in ("", "nlp-1", "nlp-2") for model in ("", "a@1")]
    assert keys == [("nlp", *pair) for pair in expected]
    assert [each.calls_rps for each in found] == [46.0, 44.0, 23.0, 22.0, 23.0, 22.0]
    assert found[1].p50_ms == pytest.approx(10.0)
    assert found[0].busy_share == 0.75


@pytest.mark.parametrize(
    ("within", "share", "seconds"),
    [
        ({}, 0.5, 0.0),
        ({0.1: 0.0, math.inf: 0.0}, 0.5, 0.0),
        ({0.1: 10.0, 0.2: 10.0, math.inf: 10.0}, 0.5, 0.05),
        ({0.1: 0.0, 0.2: 10.0, math.inf: 10.0}, 0.5, 0.15),
        ({0.1: 0.0, math.inf: 10.0}, 0.99, 0.1),
    ],
)
def test_a_quantile_lies_in_its_bucket(within: dict[float, float], share: float, seconds: float) -> None:
    assert quantile(within, share) == pytest.approx(seconds)


@given(st.text(), st.sampled_from(["meshwork_calls_total", "meshwork_call_seconds_bucket", ""]))
def test_what_is_no_metric_is_refused_or_passed_over(text: str, name: str) -> None:
    try:
        figures = read(name + text)
    except ValueError:
        return
    loads({"nlp-1": ("nlp", rates(figures, figures, 1.0))})
