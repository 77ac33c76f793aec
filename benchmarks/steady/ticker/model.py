"""A writer without a network: a number a step, fifty steps a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Self

from meshwork.errors import MeshworkError
from meshwork.serving.card import ModelDirectory
from services.nlp.tasks.generate import Finish, Order, Piece, TextGenerator

STEP_S = 0.02


class Ticker(TextGenerator[Order]):
    """Writes `0 1 2 ...`, as many as were asked for."""

    shares_device: ClassVar[bool] = False
    light: ClassVar[bool] = True

    def __init__(self) -> None:
        self._written: dict[int, tuple[int, int]] = {}  # by key: numbers written, and asked for

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """There is nothing to read."""
        return cls()

    def warm_up(self) -> None:
        """There is nothing to warm."""

    def preprocess(self, request: Order) -> Order:
        """The order as it is."""
        return request

    def room_for(self, prepared: Order) -> bool:
        """There always is."""
        return True

    def join(self, key: int, prepared: Order) -> None:
        """Begins at 0."""
        self._written[key] = (0, prepared.max_output_tokens)

    def step(self) -> Sequence[tuple[int, Piece | MeshworkError, bool]]:
        """The next number of each."""
        time.sleep(STEP_S)
        pieces: list[tuple[int, Piece | MeshworkError, bool]] = []
        for key, (written, wanted) in list(self._written.items()):
            last = written + 1 >= wanted
            finish = Finish.LENGTH if last else None
            pieces.append((key, Piece(f"{written} ", finish, 1, written + 1), last))
            self._written[key] = (written + 1, wanted)
            if last:
                del self._written[key]
        return pieces

    def leave(self, key: int) -> None:
        """Forgets it."""
        self._written.pop(key, None)

    def postprocess(self, prepared: Order, raw: Piece) -> Piece:
        """The piece as it is."""
        return raw
