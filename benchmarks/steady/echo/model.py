"""Models that cost nothing, or a given time on their device: what remains is the mesh."""

from __future__ import annotations

import time
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


class Held(Echo):
    """The same, and holds its device for `hold_ms` (of the card's parameters) an item."""

    light: ClassVar[bool] = False
    light_answers: ClassVar[bool] = True
    hold_s = 0.0

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads how long to hold."""
        task = cls()
        task.hold_s = float(directory.card.parameters.get("hold_ms", 5)) / 1e3
        return task

    def forward(self, batch: Sequence[str]) -> Sequence[str]:
        """Sleeps, so that only the device is busy."""
        time.sleep(self.hold_s * len(batch))
        return list(batch)
