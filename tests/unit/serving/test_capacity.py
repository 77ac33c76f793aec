from __future__ import annotations

import random

import pytest

from meshwork.serving.capacity import STEP, Speed, stepped


def test_a_value_takes_the_nearest_step() -> None:
    assert stepped(100.0, 0.0) == pytest.approx(100.0, rel=STEP**0.5 - 1)
    assert stepped(STEP**7, 0.0) == pytest.approx(STEP**7, rel=1e-3)


def test_a_value_keeps_its_step_until_another_is_clearly_nearer() -> None:
    shown = stepped(100.0, 0.0)
    assert stepped(shown * STEP**0.9, shown) == shown
    assert stepped(shown / STEP**0.9, shown) == shown
    assert stepped(shown * STEP**1.1, shown) == pytest.approx(shown * STEP, rel=1e-3)


def test_what_is_not_known_is_shown_as_0() -> None:
    speed = Speed()
    speed.take([0.0], 0.0)
    assert (speed.item_ms, speed.capacity_rps, stepped(0.0, 5.0)) == (0.0, 0.0, 0.0)


def test_capacity_is_the_sum_of_the_devices_in_calls_of_many_items() -> None:
    speed = Speed()
    speed.take([0.010, 0.010, 0.0], 4.0)  # the third has not been measured yet
    assert speed.item_ms == pytest.approx(10.0, rel=STEP**0.5 - 1)
    assert speed.capacity_rps == pytest.approx(75.0, rel=STEP**0.5 - 1)


def test_a_steady_replica_shows_the_same_figures() -> None:
    noise, speed = random.Random(1), Speed()
    shown = set()
    for second in range(2000):
        speed.take([0.010 * noise.uniform(0.85, 1.15)], 1.0)
        if second > 5:  # the first look may have been an odd one
            shown.add((speed.item_ms, speed.capacity_rps))
    assert len(shown) == 1


def test_one_that_becomes_ten_times_slower_shows_it_in_a_few_seconds() -> None:
    speed = Speed()
    speed.take([0.010], 1.0)
    before = speed.item_ms
    for _ in range(5):
        speed.take([0.100], 1.0)
    assert speed.item_ms > 8 * before
