"""Networks that are served as they are: named arrays in, named arrays out, batched along axis 0.

A request is arrays whose axis 0 is its rows, any number of them. Requests whose dtypes and other axes
agree are joined for one run, and each gets its own rows of the outputs back. A network whose batch
axis is not open, or whose outputs do not have the rows of its inputs, runs each request by itself.

Every service serves such models, from an .onnx, .pt2 or TorchScript file (by itself, or in a directory
whose card says `task: tensors`), and from a class of the operator's own that makes an `Engine`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Array, Engine, check_inputs
from meshwork.serving.engines.trial import example_of
from meshwork.serving.task import Task

FILES = (".onnx", ".pt2", ".pt", ".ts")


class TensorTask(Task[dict[str, Array], dict[str, Array], dict[str, Array], dict[str, Array]]):
    """Runs an engine on requests' arrays; the unit of cost is the row."""

    methods: ClassVar[tuple[str, ...]] = ("ModelInfer",)
    light = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._joins = all(spec.shape and spec.shape[0] is None for spec in engine.inputs)

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the network's file: the source itself, the card's `parameters: file`, or the only one.

        Raises:
            CardError: there is no such file, or it cannot be served.
        """
        return cls(open_network(directory, device))

    def warm_up(self) -> None:
        """Runs a batch of noise, where the network says what that may be."""
        example = example_of(self._engine.inputs, {})
        if all(None not in spec.shape[1:] for spec in self._engine.inputs):
            self._engine.run(example)

    def preprocess(self, request: dict[str, Array]) -> dict[str, Array]:
        """Checks the arrays.

        Raises:
            InvalidArgument: one is missing, unknown, of another dtype or shape, or of other rows than
                the first.
        """
        check_inputs(self._engine.inputs, request)
        if self._joins:
            total = rows(request)
            for name, array in request.items():
                if len(array) != total or not total:
                    raise InvalidArgument(
                        f"should have as many rows as the other inputs, at least one; not {len(array)}",
                        field=name,
                    )
        return request

    def cost(self, prepared: dict[str, Array]) -> float:
        """The rows."""
        return float(rows(prepared)) if self._joins else 1.0

    def group(self, prepared: dict[str, Array]) -> Hashable:
        """The shapes without the rows."""
        return tuple(prepared[spec.name].shape[1:] for spec in self._engine.inputs)

    def forward(self, batch: Sequence[dict[str, Array]]) -> Sequence[dict[str, Array] | MeshworkError]:
        """The outputs of each request."""
        if len(batch) == 1 or not self._joins:
            return [self._engine.run(each) for each in batch]
        counts = [rows(each) for each in batch]
        outputs = self._engine.run(
            {spec.name: np.concatenate([each[spec.name] for each in batch]) for spec in self._engine.inputs}
        )
        if any(array.ndim == 0 or len(array) != sum(counts) for array in outputs.values()):
            self._joins = False  # its outputs are not by row, so that requests cannot be told apart
            return self.forward(batch)
        ends = np.cumsum(counts)
        return [
            {name: array[end - count : end] for name, array in outputs.items()}
            for count, end in zip(counts, ends, strict=True)
        ]

    def postprocess(self, prepared: dict[str, Array], raw: dict[str, Array]) -> dict[str, Array]:
        """The outputs as they are."""
        return raw

    @property
    def tensors(self) -> Engine:
        """The network."""
        return self._engine


def rows(arrays: dict[str, Array]) -> int:
    """How many rows a request has."""
    return len(next(iter(arrays.values())))


def open_network(directory: ModelDirectory, device: str) -> Engine:
    """The engine of a model that is a file with a network in it.

    Raises:
        CardError: there is no such file, or it cannot be served.
    """
    from meshwork.serving.engines.select import engine_for, engine_of_onnx

    file = _network_file(directory)
    if file.suffix == ".onnx":
        return engine_of_onnx(directory, file, device)
    from meshwork.serving.engines.torch_export import open_export
    from meshwork.serving.engines.torch_script import open_torchscript

    network = (
        open_export(directory, file, device) if file.suffix == ".pt2" else open_torchscript(directory, file)
    )
    return engine_for(
        network.module,
        directory=directory,
        device=device,
        inputs=network.inputs,
        outputs=network.outputs,
        example=network.example,
        native=network.native,
    )


def _network_file(directory: ModelDirectory) -> Path:
    named = directory.only or directory.card.parameters.get("file", "")
    if named:
        file = directory.file(str(named))
        if file.suffix not in FILES:
            raise CardError(f"{directory.source}: {file.name}: should be a file in {', '.join(FILES)}")
        return file
    found = [each for each in directory.weights_folder.iterdir() if each.suffix in FILES and each.is_file()]
    if len(found) != 1:
        names = ", ".join(sorted(each.name for each in found)) or "none"
        raise CardError(
            f"{directory.source}: should hold one file in {', '.join(FILES)}, and holds {names}; "
            "say which in parameters: {file: NAME}"
        )
    return found[0]
