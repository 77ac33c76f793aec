"""What every model that puts images and texts into one space takes and gives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.task import Prepared, Raw, Task

LABEL = "{label}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageToEmbed:
    """An image."""

    content: bytes  # the encoded file: PNG, JPEG, WebP or BMP
    field: str  # where in the request it stood, for errors


@dataclass(frozen=True, kw_only=True, slots=True)
class TextToEmbed:
    """A text, or the phrase that stands for a label."""

    text: str
    field: str  # where in the request it stood, for errors
    whole: bool = False  # True if a text longer than the model reads is an error


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of an image or of a text."""

    vector: NDArray[np.float32]  # [dimension], of length 1
    truncated: bool = False  # a text was longer than the model reads


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroShot:
    """How vectors sort an image into labels: softmax(scale * cosine(image, phrase of label))."""

    phrase: str  # what stands for a label, `{label}` being the caller's
    scale: float  # learned by the model

    def phrases(self, labels: list[str]) -> list[str]:
        """What to embed for the labels."""
        return [self.phrase.replace(LABEL, label) for label in labels]

    def scores(self, image: NDArray[np.float32], phrases: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities that add up to 1: [n], of a vector [d] and the phrases' vectors [n, d]."""
        logits = self.scale * (phrases.astype(np.float64) @ image)
        powers = np.exp(logits - logits.max())
        scores: NDArray[np.float32] = (powers / powers.sum()).astype(np.float32)
        return scores


class ImageEmbedder(Task[ImageToEmbed | TextToEmbed, Prepared, Raw, Embedded]):
    """Turns images and texts into unit vectors of one space, and so sorts images into any labels.

    `preprocess` raises InvalidArgument, naming the input's `field`, for what is no image, and for a
    text that is to be read whole and is too long.
    """

    @property
    @abstractmethod
    def zero_shot(self) -> ZeroShot:
        """How this model's vectors sort images into labels."""
