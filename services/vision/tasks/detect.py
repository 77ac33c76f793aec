"""What every model that finds objects takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from meshwork.serving.task import Prepared, Raw, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectInput:
    """An image to look for objects in."""

    content: bytes  # the encoded file: PNG, JPEG, WebP or BMP
    min_score: float  # only objects that score more, from 0 to 1
    max_results: int  # the most objects to return, at least 1
    field: str = "image.content"  # where in the request the image stood, for errors


@dataclass(frozen=True, slots=True)
class Found:
    """An object, and where it is: in pixels of the upright image, within it."""

    label: str
    score: float  # from 0 to 1
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Detected:
    """The objects of an image."""

    found: list[Found]  # highest score first
    width: int  # of the upright image, in pixels
    height: int


class ObjectDetector(Task[DetectInput, Prepared, Raw, Detected]):
    """Finds the objects in an image.

    `preprocess` raises InvalidArgument, naming the input's `field`, for what is no image.
    """
