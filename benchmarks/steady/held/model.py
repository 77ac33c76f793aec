"""A model that holds its device for a given time an item: what a replica can do is then known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Self

from benchmarks.steady.echo.model import Echo
from meshwork.serving.card import ModelDirectory


class Held(Echo):
    """Echo, whose device is busy for `hold_ms` (of the card's parameters) an item; the processor is not."""

    light: ClassVar[bool] = False
    light_answers: ClassVar[bool] = True
    hold_s = 0.0

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads how long to hold."""
        task = cls()
        task.hold_s = float(directory.card.parameters["hold_ms"]) / 1e3
        return task

    def forward(self, batch: Sequence[str]) -> Sequence[str]:
        """Sleeps, so that only the device is busy."""
        time.sleep(self.hold_s * len(batch))
        return list(batch)
