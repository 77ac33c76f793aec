"""A model of one's own: the product of a vector with a 64 x 8 matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from meshwork.errors import InvalidArgument
from meshwork.serving.card import ModelDirectory
from meshwork.serving.task import Task

Array = npt.NDArray[np.float32]
WIDTH = 64


class Product(Task[bytes, Array, Array, list[float]]):
    """float32 [64] as little-endian bytes -> 8 numbers."""

    light: ClassVar[bool] = True
    methods: ClassVar[tuple[str, ...]] = ("Predict",)

    def __init__(self, weight: Array) -> None:
        self._weight = weight

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads weight.npy, [64, 8]."""
        return cls(np.load(directory.file("weight.npy")))

    def warm_up(self) -> None:
        """Once over a batch of zeros."""
        self.forward([np.zeros(WIDTH, np.float32)])

    def preprocess(self, request: bytes) -> Array:
        """Checks the length.

        Raises:
            InvalidArgument: it is not that of 64 numbers.
        """
        if len(request) != 4 * WIDTH:
            raise InvalidArgument(f"should be {4 * WIDTH} bytes, not {len(request)}", field="content")
        return np.frombuffer(request, "<f4")

    def forward(self, batch: Sequence[Array]) -> Sequence[Array]:
        """[n, 64] x [64, 8]."""
        return list(np.stack(batch) @ self._weight)

    def postprocess(self, prepared: Array, raw: Array) -> list[float]:
        """As plain numbers."""
        numbers: list[float] = raw.tolist()
        return numbers
