"""What every model that classifies images takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from meshwork.serving.task import Prepared, Raw, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """An image to classify."""

    content: bytes  # the encoded file: PNG, JPEG, WebP or BMP
    top_k: int  # the most classes to return, at least 1
    field: str = "image.content"  # where in the request the image stood, for errors


@dataclass(frozen=True, slots=True)
class Scored:
    """A class and the model's probability of it, from 0 to 1."""

    label: str
    score: float


class ImageClassifier(Task[ImageInput, Prepared, Raw, list[Scored]]):
    """Names what an image shows: the likeliest classes, highest score first.

    `preprocess` raises InvalidArgument, naming the input's `field`, for what is no image.
    """

    def observed(self, out: list[Scored]) -> tuple[float, str] | None:
        """The likeliest class and its probability."""
        return (out[0].score, out[0].label) if out else None
