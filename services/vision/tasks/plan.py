"""What a model's image processor does, as one resize, one crop and one multiplication and addition::

    pixel_values[c] = middle(resized)[c] * scale[c] + bias[c]

transformers' processors on Pillow do it in four steps, copying the whole image between them. The values
lie in memory as [height, width, 3], which convolutions prefer, and are seen as [3, height, width], which
networks expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The steps of a processor."""

    size: Mapping[str, int]  # as in preprocessor_config.json, set entries only; empty: no resizing
    crop: tuple[int, int] | None  # height, width of the middle that is kept
    resample: int
    scale: Array  # float32 [3]
    bias: Array  # float32 [3]

    @classmethod
    def of(cls, processor: Any) -> Self:
        """Reads a processor's settings."""
        size = _set_entries(processor.size) if processor.do_resize else {}
        crop = None
        if getattr(processor, "do_center_crop", None):
            entries = _set_entries(processor.crop_size)
            crop = (entries["height"], entries["width"])
        if hasattr(processor, "crop_pct") and "shortest_edge" in size:  # ConvNext's
            side = size["shortest_edge"]
            if side < 384:
                size, crop = {"shortest_edge": int(side / processor.crop_pct)}, (side, side)
            else:
                size = {"height": side, "width": side}
        factor = processor.rescale_factor if processor.do_rescale else 1.0
        mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
        std = np.asarray(std, np.float64)
        return cls(
            size=size,
            crop=crop,
            resample=int(Image.Resampling.BILINEAR if processor.resample is None else processor.resample),
            scale=np.broadcast_to(factor / std, 3).astype(np.float32),
            bias=np.broadcast_to(-np.asarray(mean, np.float64) / std, 3).astype(np.float32),
        )

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image is resized to."""
        from transformers import image_transforms, image_utils

        match dict(self.size):
            case {"shortest_edge": shortest, "longest_edge": longest}:
                rows, columns = image_transforms.get_size_with_aspect_ratio(
                    (height, width), shortest, longest
                )
            case {"shortest_edge": shortest}:
                # Not their function: it wants an array of the image's size.
                long = int(shortest * max(width, height) / min(width, height))
                rows, columns = (long, shortest) if width <= height else (shortest, long)
            case {"max_height": most_rows, "max_width": most_columns}:
                rows, columns = image_utils.get_image_size_for_max_height_width(
                    (height, width), most_rows, most_columns
                )
            case {"height": rows, "width": columns}:
                pass
            case _:
                rows, columns = height, width
        return columns, rows

    def values(self, resized: Image.Image) -> Array:
        """`pixel_values` of a resized image: float32 [3, height, width]."""
        if self.crop is not None:
            resized = _middle(resized, *self.crop)
        width, height = resized.size
        # A row at a time: numpy is slow on an innermost axis of three.
        rows = np.asarray(resized).reshape(height, width * 3)
        out: Array = np.multiply(rows, np.tile(self.scale, width), dtype=np.float32)
        out += np.tile(self.bias, width)
        return out.reshape(height, width, 3).transpose(2, 0, 1)


def _set_entries(size: Any) -> dict[str, int]:
    return {name: int(value) for name, value in dict(size).items() if value is not None}


def _middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of the image, black around it where it is smaller."""
    # Rounded as transformers does: odd rests to the right when cutting, to the left when filling.
    left = (image.width - width) // 2 if image.width >= width else -((width - image.width + 1) // 2)
    top = (image.height - height) // 2 if image.height >= height else -((height - image.height + 1) // 2)
    return image.crop((left, top, left + width, top + height))
