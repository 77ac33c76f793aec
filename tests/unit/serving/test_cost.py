from __future__ import annotations

import pytest

from meshwork.serving.cost import CostModel


def learned(seconds: dict[float, float], *, longest_s: float = 10.0) -> CostModel:
    model = CostModel(longest_s=longest_s)
    for cost, elapsed_s in seconds.items():
        model.learn(cost, elapsed_s)
    return model


def test_before_anything_is_measured_a_batch_is_a_few_items() -> None:
    model = CostModel()
    assert model.budget(10) == 80
    assert model.seconds(10) == 0
    assert not model.known


def test_the_budget_grows_while_larger_batches_are_better() -> None:
    model = CostModel(longest_s=10.0)
    tried = []
    for _ in range(8):
        cost = model.budget(1.0)
        tried.append(cost)
        model.learn(cost, 0.010 + 0.0001 * cost)  # a fixed part that larger batches share
    assert tried[:5] == sorted(tried[:5])
    assert 1000 < tried[-1] < 10_000  # from where on the fixed part is lost in the rest


def test_the_budget_stays_small_where_larger_batches_are_no_better() -> None:
    model = learned({1: 0.010, 2: 0.020, 4: 0.040, 8: 0.080, 16: 0.160})
    assert model.budget(1.0) == 2


def test_a_larger_batch_is_tried_again_now_and_then() -> None:
    model = learned({1: 0.010, 2: 0.020, 4: 0.040})
    budgets = set()
    for _ in range(64):
        model.learn(1, 0.010)
        budgets.add(model.budget(1.0))
    assert max(budgets) > min(budgets) == 2


def test_a_batch_is_not_planned_to_hold_the_device_for_longer_than_it_may() -> None:
    model = learned({64: 6.4}, longest_s=0.5)
    assert model.budget(1.0) == pytest.approx(5.0)


def test_the_queue_is_predicted_at_the_best_rate_and_a_batch_at_that_of_its_size() -> None:
    model = learned({1: 0.010, 64: 0.064})
    assert model.queue_seconds(1000) == pytest.approx(1.0)
    assert model.seconds(1) == pytest.approx(0.010)
    assert model.seconds(64) == pytest.approx(0.064)


def test_one_odd_measurement_does_not_stay() -> None:
    model = learned({1: 5.0})
    for _ in range(40):
        model.learn(1, 0.010)
    assert model.seconds(1) == pytest.approx(0.010, rel=0.1)


def test_a_device_that_becomes_slow_is_slow_for_sizes_that_it_has_not_seen_since() -> None:
    model = learned({1: 0.010, 64: 0.064})
    for _ in range(200):
        model.learn(1, 0.010)
    for _ in range(6):
        model.learn(1, 0.100)
    assert model.queue_seconds(64) == pytest.approx(0.64, rel=0.2)


def test_what_a_full_batch_would_need_is_known_from_lone_items() -> None:
    model = CostModel(longest_s=10.0)
    for cost in (1, 64, 1, 64, 1, 64):
        model.learn(cost, 0.010 + 0.001 * cost)
    for _ in range(100):
        model.learn(1, 0.011)
    assert model.best_rate == pytest.approx(0.074 / 64, rel=0.02)
