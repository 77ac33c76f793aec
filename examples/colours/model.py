"""A model of one's own: the main colours of a picture, by the share of its surface that each takes.

Every pixel counts for the named colours that it is near to in Oklab, a space in which equal distances
look equally far apart (Björn Ottosson, "A perceptual color space for image processing").

Serve it with `meshwork models add colours --service vision --source examples/colours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from meshwork.devices import torch_device
from meshwork.serving.card import ModelDirectory
from services.vision.tasks.classify import ImageClassifier, ImageInput, Scored
from services.vision.tasks.image import decode

SIDE = 48  # pixels that are looked at, a side
SHARPNESS = 400.0  # how little a farther colour counts beside the nearest
COLOURS = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (220, 20, 30),
    "orange": (255, 140, 0),
    "yellow": (255, 225, 30),
    "green": (30, 150, 50),
    "blue": (30, 80, 220),
    "purple": (130, 40, 160),
    "pink": (255, 150, 190),
    "brown": (120, 70, 30),
}
_TO_CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
_TO_OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture made ready for the network."""

    pixels: NDArray[np.uint8]  # [48, 48, 3], sRGB
    top_k: int


class Colours(ImageClassifier[Picture, NDArray[np.float32]]):
    """Says how much of a picture each colour takes; batches of any size."""

    methods = ("Classify",)

    def __init__(self, device: str) -> None:
        self._device = torch_device(device)
        self._cones = torch.tensor(_TO_CONES, device=self._device)
        self._oklab = torch.tensor(_TO_OKLAB, device=self._device)
        self._named = self._in_oklab(torch.tensor(list(COLOURS.values()), device=self._device))  # [11, 3]

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """There are no weights to read; `directory.file(...)` would give them."""
        return cls(device)

    def warm_up(self) -> None:
        """Runs once."""
        self.forward([Picture(np.zeros((SIDE, SIDE, 3), np.uint8), 1)])

    def preprocess(self, request: ImageInput) -> Picture:
        """Decodes the image; runs on any CPU thread.

        Raises:
            InvalidArgument: the bytes are no image.
        """
        image = decode(request.content, field=request.field, longest_px=4 * SIDE)
        return Picture(np.asarray(image.resize((SIDE, SIDE))), request.top_k)

    @torch.inference_mode()
    def forward(self, batch: Sequence[Picture]) -> Sequence[NDArray[np.float32]]:
        """Shares of the colours, float32 [11] each; runs on the device's thread."""
        pixels = torch.from_numpy(np.stack([picture.pixels for picture in batch]))
        lab = self._in_oklab(pixels.to(self._device))  # [n, 48, 48, 3]
        squared = (lab.unsqueeze(-2) - self._named).square().sum(-1)  # [n, 48, 48, 11]
        shares: NDArray[np.float32] = (-SHARPNESS * squared).softmax(-1).mean((1, 2)).cpu().numpy()
        return list(shares)

    def postprocess(self, prepared: Picture, raw: NDArray[np.float32]) -> list[Scored]:
        """The largest shares."""
        order = np.argsort(-raw, kind="stable")[: prepared.top_k]
        names = list(COLOURS)
        return [Scored(names[index], float(raw[index])) for index in order]

    def _in_oklab(self, srgb: torch.Tensor) -> torch.Tensor:
        """sRGB from 0 to 255, [..., 3], in Oklab."""
        value = srgb.float() / 255
        linear = torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        return (linear @ self._cones.T) ** (1 / 3) @ self._oklab.T
