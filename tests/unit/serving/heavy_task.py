"""A task that holds memory and loads when it may, and one that answers in steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.task import StreamTask, Task

MEGABYTES = 64


class Heavy(Task[str, str, str, str]):
    """Holds 64 MB that are really there; says which device it is on."""

    gate: ClassVar[threading.Event] = threading.Event()  # loads wait for it
    loads: ClassVar[int] = 0

    def __init__(self, device: str) -> None:
        self.device = device
        self.weights: NDArray[np.uint8] | None = np.ones(MEGABYTES << 20, np.uint8)

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        cls.gate.wait(10)
        cls.loads += 1
        if directory.card.parameters.get("broken"):
            raise CardError("its weights are broken")
        return cls(device)

    def warm_up(self) -> None:
        return

    def memory_bytes(self) -> int:
        return MEGABYTES << 20

    def preprocess(self, request: str) -> str:
        return request

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        return [self.device] * len(batch)

    def postprocess(self, prepared: str, raw: str) -> str:
        return raw

    def close(self) -> None:
        self.weights = None


class Counter(StreamTask[int, int, int, int]):
    """Counts up to what it was asked for, a number a step, three callers at a time."""

    most: ClassVar[int] = 3

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.counted: dict[int, int] = {}
        self.steps: list[list[int]] = []
        self.turn = threading.Semaphore(0)  # a step waits for it
        self.free = True  # or does not

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        return

    def preprocess(self, request: int) -> int:
        if request < 1:
            raise InvalidArgument("should be 1 or more", field="count")
        return request

    def postprocess(self, prepared: int, raw: int) -> int:
        return raw

    def room_for(self, prepared: int) -> bool:
        return len(self.left) < self.most and prepared < 1_000_000

    def join(self, key: int, prepared: int) -> None:
        if prepared == 13:
            raise InvalidArgument("nobody counts to 13", field="count")
        self.left[key] = prepared
        self.counted[key] = 0

    def step(self) -> Sequence[tuple[int, int | MeshworkError, bool]]:
        if not self.free:
            self.turn.acquire(timeout=10)
        self.steps.append(sorted(self.left))
        pieces = []
        for key in self.left:
            self.counted[key] += 1
            if self.left[key] == 666:
                raise RuntimeError("secret internals")
            pieces.append((key, self.counted[key], self.counted[key] == self.left[key]))
        return pieces

    def leave(self, key: int) -> None:
        self.left.pop(key, None)
