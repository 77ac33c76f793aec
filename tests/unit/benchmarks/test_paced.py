from __future__ import annotations

import pytest

from benchmarks.paced.mixes import MIXES, Mix, Pace, arrivals, ideal, percentiles_ms
from benchmarks.paced.plain import plain_config


def test_there_are_the_known_mix_and_ten_others_two_of_which_change() -> None:
    assert len({mix.name for mix in MIXES}) == len(MIXES) == 11
    assert sum(bool(mix.later) for mix in MIXES) == 2
    counts = [len(mix.paces) for mix in MIXES]
    assert counts == sorted(counts, reverse=True)


def test_arrivals_come_at_the_load_that_was_asked_for_and_always_the_same() -> None:
    mix = Mix("", (Pace(10), Pace(20)), later=(Pace(10), Pace(10)))
    times = arrivals(mix, 0.5, 100.0, seed=1)
    assert times == arrivals(mix, 0.5, 100.0, seed=1)
    early = sum(time < 50 for time in times)
    assert early == pytest.approx(0.5 * 150 * 50, rel=0.05)
    assert len(times) - early == pytest.approx(0.5 * 200 * 50, rel=0.05)


def test_in_the_ideal_the_fastest_free_replica_takes_who_came_first() -> None:
    mix = Mix("", (Pace(20), Pace(10)))
    assert ideal(mix, [0.0, 0.001, 0.002], 1.0) == pytest.approx([0.010, 0.020, 0.018])


def test_in_the_ideal_a_batch_takes_what_waits() -> None:
    mix = Mix("", (Pace(10, 1, most=2),))
    assert ideal(mix, [0.0, 0.001, 0.002, 0.003], 1.0) == pytest.approx([0.011, 0.022, 0.021, 0.031])


def test_in_the_ideal_replicas_change_when_they_do() -> None:
    mix = Mix("", (Pace(10),), later=(Pace(100),))
    assert ideal(mix, [0.0, 0.6], 1.0) == pytest.approx([0.010, 0.100])


def test_percentiles_are_of_the_sorted_values() -> None:
    figures = percentiles_ms([each / 1000 for each in reversed(range(100))])
    assert figures == {"p50": 50, "p95": 95, "p99": 99}


def test_the_plain_envoy_has_no_filter_but_the_router() -> None:
    config = plain_config(1234, ["127.0.0.1:1", "127.0.0.1:2"], "ROUND_ROBIN")
    listener = config["static_resources"]["listeners"][0]
    (network_filter,) = listener["filter_chains"][0]["filters"]
    assert len(network_filter["typed_config"]["http_filters"]) == 1
