"""A model that costs nothing: what remains is the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from meshwork.serving.card import ModelDirectory
from services.nlp.tasks.embed import Embedded, TextEmbedder, ZeroShot


class Echo(TextEmbedder[str, str]):
    """Embeds a text as [1, 0, 0, 0]."""

    light: ClassVar[bool] = True

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """There is nothing to read."""
        return cls()

    def warm_up(self) -> None:
        """There is nothing to warm."""

    @property
    def zero_shot(self) -> ZeroShot:
        """As any embedder's."""
        return ZeroShot()

    def preprocess(self, request: str) -> str:
        """The text as it is."""
        return request

    def forward(self, batch: Sequence[str]) -> Sequence[str]:
        """The texts as they are."""
        return list(batch)

    def postprocess(self, prepared: str, raw: str) -> Embedded:
        """The same vector for all."""
        return Embedded(vector=np.array([1, 0, 0, 0], np.float32), token_count=1, truncated=False)
