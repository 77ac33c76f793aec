"""What every engine is: a loaded network that turns named arrays into named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """A named array that a network takes or gives."""

    name: str
    dtype: str  # numpy's name, for example "float32" or "int64"
    shape: tuple[int | None, ...]  # None where any length will do; axis 0 is the batch


class Engine(Protocol):
    """A network on a device. One thread a device calls `run`; the constructor has loaded it."""

    @property
    def name(self) -> str:
        """Which engine it is, for example `torch` or `onnxruntime:CPU`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch: arrays as `inputs` says, all of the same length along axis 0."""

    def memory_bytes(self) -> int:
        """Bytes that the weights take on the device."""

    def close(self) -> None:
        """Gives back what garbage collection would not."""
