"""From an encoded image to what a network takes: what the model's own processor makes, at less cost.

When a model loads, the processor's `Plan` is held to the processor itself on images of several shapes.
Where they differ (padding to multiples, an own way to crop, ...) the processor is run instead.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.engines.select import engine_for
from meshwork.serving.pretrained import load_processor
from services.vision.tasks.image import decode, decode_resized
from services.vision.tasks.plan import Array, Plan

log = logging.getLogger(__name__)

_PROBES = ((64, 48), (48, 64), (56, 56), (400, 120), (90, 250))  # width, height
_THINNEST = 100  # longer by shorter side of what an unknown processor is given
_TOLERANCE = 1e-5  # of a normalised value; both compute in float32


@dataclass(frozen=True, slots=True)
class Pictured:
    """An image as a network takes it, and what it was."""

    arrays: Mapping[str, Array]  # without the batch axis; `pixel_values`: float32 [3, height, width]
    width: int  # of the upright image as sent, in pixels
    height: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `pixel_values`: images of one shape may share a batch."""
        return tuple(self.arrays["pixel_values"].shape)

    @property
    def megapixels(self) -> float:
        """Pixels that the network sees, in millions."""
        return float(np.prod(self.shape[-2:])) / 1e6


class Preprocessor:
    """From an encoded image to what a network takes.

    Args:
        processor: transformers' image processor, of the Pillow kind.
        exact: True to decode each JPEG whole (see `services.vision.tasks.image`).

    Raises:
        CardError: the processor fails on an ordinary image.
    """

    def __init__(self, processor: Any, *, exact: bool = False) -> None:
        self.processor = processor
        self._exact = exact
        try:
            probes = [_noise(*size) for size in _PROBES]
            made = [self._by_processor(probe) for probe in probes]
        except Exception as error:
            raise CardError(f"{type(processor).__name__}: fails on an ordinary image: {error}") from error
        self._masked = any("pixel_mask" in each and not each["pixel_mask"].all() for each in made)
        shapes = {each["pixel_values"].shape for each in made}
        self._shape: tuple[int | None, ...] = shapes.pop() if len(shapes) == 1 else (3, None, None)
        self._plan = None if self._masked else _plan_like(processor, probes, made)

    @classmethod
    def load(cls, directory: ModelDirectory) -> Self:
        """Reads `preprocessor_config.json`; the card's parameter `exact_decode` is `exact`.

        Raises:
            CardError: it is missing or does not fit.
        """
        # transformers takes its torchvision processors where it can, whose pixels are slightly others.
        processor = load_processor("AutoImageProcessor", directory, backend="pil")
        return cls(processor, exact=bool(directory.card.parameters.get("exact_decode", False)))

    @property
    def planned(self) -> bool:
        """True if the processor itself is not needed."""
        return self._plan is not None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What comes out, as a network's inputs."""
        values = TensorSpec(name="pixel_values", dtype="float32", shape=(None, *self._shape))
        mask = TensorSpec(name="pixel_mask", dtype="int64", shape=(None, *self._shape[1:]))
        return (values, mask) if self._masked else (values,)

    def example(self) -> Pictured:
        """An ordinary image, prepared."""
        file = io.BytesIO()
        _noise(320, 240).save(file, "BMP")
        return self(file.getvalue(), "image.content")

    def __call__(self, content: bytes, field: str) -> Pictured:
        """Decodes and prepares an image.

        Raises:
            InvalidArgument: it is none, or too large or too thin; names `field`.
        """
        plan = self._plan
        if plan is None:
            image = decode(content, field=field)
            try:
                return Pictured(self._by_processor(image), *image.size)
            except Exception as error:  # it was made for ordinary images, and checks little
                raise InvalidArgument(
                    f"has {image.width} x {image.height} pixels, which the model's image processor does "
                    f"not take: {error}",
                    field=field,
                ) from error
        image, (width, height) = decode_resized(
            content, field=field, size_for=plan.size_for, resample=plan.resample, exact=self._exact
        )
        return Pictured({"pixel_values": plan.values(image)}, width, height)

    def _by_processor(self, image: Image.Image) -> dict[str, Array]:
        if max(image.size) > _THINNEST * min(image.size):
            raise ValueError("it is too long and thin")
        made = self.processor(images=image, return_tensors="np")
        arrays = {"pixel_values": np.ascontiguousarray(made["pixel_values"][0], np.float32)}
        if "pixel_mask" in made:
            arrays["pixel_mask"] = np.asarray(made["pixel_mask"][0], np.int64)
        return arrays


def image_engine(
    network: Any,
    preprocessor: Preprocessor,
    outputs: tuple[TensorSpec, ...],
    *,
    directory: ModelDirectory,
    device: str,
) -> Engine:
    """The engine of a network that takes what `preprocessor` makes.

    Raises:
        CardError: as `engine_for`.
    """
    return engine_for(
        network,
        directory=directory,
        device=device,
        inputs=preprocessor.inputs,
        outputs=outputs,
        example=stacked([preprocessor.example()], preprocessor.inputs),
    )


def stacked(batch: Sequence[Pictured], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The arrays that `inputs` names, of a batch of images of one shape: [batch, ...] each."""
    channels, height, width = batch[0].shape
    values = np.empty((len(batch), height, width, channels), np.float32)
    for index, each in enumerate(batch):
        values[index] = each.arrays["pixel_values"].transpose(1, 2, 0)
    made: dict[str, Array] = {"pixel_values": values.transpose(0, 3, 1, 2)}
    for spec in inputs:
        if spec.name not in made:
            made[spec.name] = np.stack([each.arrays[spec.name] for each in batch])
    return made


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _plan_like(processor: Any, probes: list[Image.Image], made: list[dict[str, Array]]) -> Plan | None:
    """The plan of the processor, if it makes of the probes what the processor made."""
    name = type(processor).__name__
    try:
        plan = Plan.of(processor)
        for probe, arrays in zip(probes, made, strict=True):
            values = plan.values(probe.resize(plan.size_for(*probe.size), plan.resample))
            wanted = arrays["pixel_values"]
            if values.shape != wanted.shape or not np.allclose(values, wanted, atol=_TOLERANCE):
                log.info("%s has steps of its own; it is run as it is", name)
                return None
    except Exception as error:  # a processor without one of the settings, or with another kind of it
        log.info("%s is run as it is: %r", name, error)
        return None
    return plan
