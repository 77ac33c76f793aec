"""Images are prepared as each model's own processor prepares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError
from services.vision.tasks.pixels import Preprocessor
from tests.unit.services.vision.checkpoints import encoded

SIZES = [(75, 50), (50, 75), (64, 64), (31, 33), (400, 30), (1, 1)]
SIDE = {"shortest_edge": 48}
EDGES = {"shortest_edge": 60, "longest_edge": 90}

# (processor, settings, whether a plan stands for it)
PROCESSORS: list[tuple[str, dict[str, Any], bool]] = [
    ("ViT", {}, True),
    ("ViT", {"size": {"height": 40, "width": 30}, "resample": 3}, True),
    ("ViT", {"do_normalize": False}, True),
    ("ViT", {"do_rescale": False, "do_normalize": False}, True),
    ("ViT", {"do_resize": False}, True),
    ("ConvNext", {}, True),
    ("ConvNext", {"size": SIDE, "crop_pct": 0.9}, True),
    ("CLIP", {"size": SIDE, "crop_size": {"height": 48, "width": 48}}, True),
    ("CLIP", {"size": SIDE, "crop_size": {"height": 61, "width": 40}}, True),  # partly beside the image
    ("Bit", {"size": SIDE, "do_center_crop": False}, True),
    ("Detr", {"size": EDGES}, True),
    ("RTDetr", {"size": {"height": 64, "width": 96}}, True),
    ("RTDetr", {"size": {"max_height": 50, "max_width": 60}, "do_normalize": True}, True),
    ("Detr", {"size": EDGES, "pad_size": {"height": 96, "width": 96}}, False),
    ("Yolos", {"size": EDGES}, False),
    ("EfficientNet", {"size": {"height": 40, "width": 40}}, False),
]


def processor(name: str, settings: dict[str, Any]) -> Any:
    return getattr(transformers, f"{name}ImageProcessorPil")(**settings)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("name", "settings", "planned"), PROCESSORS)
def test_an_image_is_prepared_as_the_processor_prepares_it(
    name: str, settings: dict[str, Any], planned: bool
) -> None:
    own = processor(name, settings)
    prepare = Preprocessor(own)
    assert prepare.planned == planned
    for size in SIZES:
        image = noise(*size)
        try:
            wanted = own(images=image, return_tensors="np")
        except Exception:  # what the processor does not take, is refused
            with pytest.raises(InvalidArgument):
                prepare(encoded(image), "image.content")
            continue
        made = prepare(encoded(image), "image.content")
        assert (made.width, made.height) == size
        for spec in prepare.inputs:
            assert made.arrays[spec.name].shape == wanted[spec.name][0].shape
            np.testing.assert_allclose(made.arrays[spec.name], wanted[spec.name][0], atol=1e-5)


def test_what_a_network_takes_is_told_before_it_takes_it() -> None:
    square = Preprocessor(processor("ViT", {}))
    assert [spec.shape for spec in square.inputs] == [(None, 3, 224, 224)]
    any_size = Preprocessor(processor("Detr", {"size": EDGES}))
    assert [spec.shape for spec in any_size.inputs] == [(None, 3, None, None)]
    padded = Preprocessor(processor("Detr", {"pad_size": {"height": 1333, "width": 1333}}))
    assert [spec.name for spec in padded.inputs] == ["pixel_values", "pixel_mask"]


@pytest.mark.parametrize("name", ["CLIP", "Detr", "Yolos"])
def test_an_image_that_is_too_thin_is_refused_by_its_size(name: str) -> None:
    prepare = Preprocessor(processor(name, {}))
    with pytest.raises(InvalidArgument, match="3 x 20000 pixels") as caught:
        prepare(encoded(Image.new("RGB", (3, 20_000))), "images[2].content")
    assert caught.value.field == "images[2].content"


def test_a_processor_that_fails_on_any_image_is_refused_when_the_model_loads() -> None:
    with pytest.raises(CardError, match="ViTImageProcessorPil: fails on an ordinary image"):
        Preprocessor(processor("ViT", {"image_mean": [0.5, 0.5]}))
