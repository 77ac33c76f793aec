"""The network of any task as named tensors, batched by rows.

A request is arrays whose axis 0 is its rows; requests whose other axes agree are joined along it for
one run of the engine, and each gets its own rows of the outputs back.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Self

import numpy as np

from meshwork.errors import MeshworkError
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine
from meshwork.serving.oip.datatypes import Array
from meshwork.serving.task import Task

Arrays = dict[str, Array]


class RawTask(Task[Arrays, Arrays, Arrays, Arrays]):
    """Runs an engine that another task has loaded; the unit of cost is the row."""

    light = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names = tuple(spec.name for spec in engine.inputs)

    @property
    def tensors(self) -> Engine:
        """The engine."""
        return self._engine

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Refuses: this task is made of another one's engine."""
        raise CardError(f"{directory.source}: no model is of this task alone")

    def warm_up(self) -> None:
        """Nothing: the task that owns the engine has done it."""

    def preprocess(self, request: Arrays) -> Arrays:
        """Nothing is left to do: the protocol's `Signature` has checked the arrays."""
        return request

    def cost(self, prepared: Arrays) -> float:
        """The rows."""
        return float(rows(prepared))

    def group(self, prepared: Arrays) -> Hashable:
        """The shapes without the rows, in the order of the engine's inputs."""
        return tuple(prepared[name].shape[1:] for name in self._names)

    def forward(self, batch: Sequence[Arrays]) -> Sequence[Arrays | MeshworkError]:
        """The outputs of each request, of as many rows as it has."""
        # A copy even of one: what came off the wire can't be written to, and torch wants it writable.
        joined = {name: np.concatenate([each[name] for each in batch]) for name in self._names}
        outputs = self._engine.run(joined)
        total = sum(map(rows, batch))
        if any(len(array) != total for array in outputs.values()):
            raise RuntimeError(f"{self._engine.name} gave outputs of other than {total} rows")
        answers: list[Arrays] = []
        begin = 0
        for each in batch:
            end = begin + rows(each)
            answers.append({name: array[begin:end] for name, array in outputs.items()})
            begin = end
        return answers

    def postprocess(self, prepared: Arrays, raw: Arrays) -> Arrays:
        """The outputs as they are."""
        return raw


def rows(arrays: Arrays) -> int:
    """How many rows a request has."""
    return len(next(iter(arrays.values())))
