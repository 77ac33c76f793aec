from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import TensorSpec, error_between
from meshwork.serving.engines.torch_eager import TorchEngine
from tests.unit.serving.engines.networks import (
    IDS_AND_SIDE,
    LOGITS,
    PIXELS,
    SCORES_AND_STATES,
    Classifier,
    TwoWays,
    ids_and_side,
    pixels,
    reference,
)


def classifier(**more: Any) -> TorchEngine:
    given = {"device": "cpu", "inputs": PIXELS, "outputs": LOGITS, "example": pixels(2), **more}
    return TorchEngine(Classifier(), **given)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_folded_and_channels_last_it_gives_what_plain_torch_gives(batch: int) -> None:
    engine = classifier()
    assert not [each for each in engine.network.modules() if isinstance(each, nn.BatchNorm2d)]
    want = reference(Classifier(), pixels(batch))
    assert error_between(engine.run(pixels(batch)), want) < 1e-5


def test_a_convolution_whose_output_is_read_elsewhere_too_is_not_folded() -> None:
    class Read(Classifier):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = self.first(pixels)
            logits: torch.Tensor = self.head((self.norm(x) + x).mean((2, 3)))
            return logits

    engine = TorchEngine(Read(), device="cpu", inputs=PIXELS, outputs=LOGITS, example=pixels(2))
    assert [each for each in engine.network.modules() if isinstance(each, nn.BatchNorm2d)]
    assert error_between(engine.run(pixels(3)), reference(Read(), pixels(3))) < 1e-5


def test_several_inputs_and_outputs_go_by_name_and_lengths_may_differ() -> None:
    engine = TorchEngine(
        TwoWays(), device="cpu", inputs=IDS_AND_SIDE, outputs=SCORES_AND_STATES, example=ids_and_side(2, 3)
    )
    for length in (1, 9):
        inputs = ids_and_side(4, length)
        got = engine.run(inputs)
        assert list(got) == ["scores", "states"]
        assert error_between(got, reference(TwoWays(), inputs)) < 1e-6


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"ids": None}, "ids", r"is missing; the model takes ids int64\[\?, \?\], side float32\[\?, 4\]"),
        ({"more": np.zeros(3)}, "more", "no such input"),
        ({"side": np.zeros((2, 4))}, "side", r"should be float32\[\?, 4\], not float64\[2, 4\]"),
        ({"side": np.zeros((2, 5), np.float32)}, "side", r"not float32\[2, 5\]"),
        ({"ids": np.zeros(2, np.int64)}, "ids", r"not int64\[2\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(change: dict[str, Any], field: str, says: str) -> None:
    engine = TorchEngine(TwoWays(), device="cpu", inputs=IDS_AND_SIDE, outputs=SCORES_AND_STATES)
    inputs = {**ids_and_side(2, 3), **change}
    with pytest.raises(InvalidArgument, match=says) as error:
        engine.run({name: array for name, array in inputs.items() if array is not None})
    assert error.value.field == field


def test_arrays_that_are_read_only_or_run_backwards_are_taken() -> None:
    engine = classifier()
    array = pixels(2)["pixels"]
    frozen = np.frombuffer(array.tobytes(), np.float32).reshape(array.shape)
    backwards = array[::-1]
    want = engine.run({"pixels": array})["logits"]
    np.testing.assert_allclose(engine.run({"pixels": frozen})["logits"], want, atol=1e-6)
    np.testing.assert_allclose(engine.run({"pixels": backwards})["logits"], want[::-1], atol=1e-6)


def test_bfloat16_is_used_where_the_cpu_has_it_and_answers_stay_float32() -> None:
    engine = classifier().at("bfloat16")
    got = engine.run(pixels(3))
    assert got["logits"].dtype == np.float32
    assert error_between(got, reference(Classifier(), pixels(3))) < 5e-2
    weights = engine.network.module.head.weight.dtype
    assert weights == (torch.bfloat16 if engine.place.holds("bfloat16") else torch.float32)


def test_its_memory_is_that_of_its_weights_and_closing_gives_it_back() -> None:
    engine = classifier()
    assert engine.memory_bytes() >= 4 * (8 * 3 * 9 + 8 * 8 * 9 + 8 * 5)
    engine.close()
    assert engine.memory_bytes() == 0


@pytest.mark.parametrize(
    ("device", "says"),
    [("abacus:0", "none of that name"), ("meta:0", "should be cpu"), ("cuda:99", "CUDA device")],
)
def test_a_device_that_is_not_there_is_refused(device: str, says: str) -> None:
    with pytest.raises(CardError, match=says):
        classifier(device=device)


def test_a_network_that_does_not_take_its_own_example_is_refused() -> None:
    wrong = (TensorSpec("pixels", "float32", (None, 4, 12, 12)),)
    example = {"pixels": np.zeros((1, 4, 12, 12), np.float32)}
    with pytest.raises(CardError, match=r"does not run on pixels float32\[\?, 4, 12, 12\]"):
        classifier(inputs=wrong, example=example)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_cuda_it_gives_what_the_cpu_gives(precision: str) -> None:
    engine = classifier(device="cuda:0").at(precision)
    for batch in (1, 5):
        got = engine.run(pixels(batch))
        error = error_between(got, reference(Classifier(), pixels(batch)))
        assert error < (1e-3 if precision == "float32" else 5e-2)
    engine.close()
