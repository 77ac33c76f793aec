"""Times from attention are those of Whisper's own dynamic time warping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

from services.speech.alignment import smoothed, token_steps, warp


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 40), (30, 12), (40, 200)])
def test_the_cheapest_path_is_that_of_transformers(shape: tuple[int, int]) -> None:
    for seed in range(3):
        cost = np.random.default_rng(seed).normal(size=shape)
        rows, columns = _dynamic_time_warping(cost)
        want = [columns[rows == row].min() for row in range(shape[0])]
        np.testing.assert_array_equal(warp(cost), want)


def test_equal_costs_choose_the_same_path() -> None:
    rows, columns = _dynamic_time_warping(np.zeros((6, 20)))
    np.testing.assert_array_equal(warp(np.zeros((6, 20))), [columns[rows == row].min() for row in range(6)])


@pytest.mark.parametrize("steps", [2, 3, 4, 50])
def test_smoothing_is_the_median_filter_of_transformers(steps: int) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, steps)).astype(np.float32)
    want = _median_filter(torch.from_numpy(values)[None], 7)[0].numpy()
    np.testing.assert_array_equal(smoothed(values, 7), want)


def test_attention_without_any_shape_still_gives_times() -> None:
    found = token_steps(np.full((2, 4, 30), 0.5, np.float32), 7)
    assert found.shape == (4,)
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found < 30)).all()
