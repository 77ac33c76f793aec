"""A task that answers with what it was given, slowly or wrongly where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Self

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.serving.card import ModelDirectory
from meshwork.serving.task import Task


class Echo(Task[str, str, str, str]):
    """Answers `x` with `echo x`; refuses `bad...`, breaks the whole batch on `break...`."""

    max_batch_items = 8

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.closed = False

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        return

    def preprocess(self, request: str) -> str:
        if request.startswith("unreadable"):
            raise InvalidArgument("cannot be read", field="text")
        return request

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        self.began.set()
        self.gate.wait(10)
        self.batches.append(list(batch))
        if any(item.startswith("break") for item in batch):
            raise RuntimeError("secret internals")
        return [
            InvalidArgument("bad item", field="text") if item.startswith("bad") else f"echo {item}"
            for item in batch
        ]

    def postprocess(self, prepared: str, raw: str) -> str:
        return raw

    def close(self) -> None:
        self.closed = True


class Loud(Echo):
    """Another kind of the same."""
