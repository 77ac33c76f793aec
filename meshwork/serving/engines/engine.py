"""An engine: a network that is ready on a device, as named arrays in and named arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from meshwork.errors import InvalidArgument

Array = NDArray[Any]
Arrays = Mapping[str, Array]

DEFAULT_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest `error_between` an engine's outputs and those of torch in float32, by precision."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network."""

    name: str
    dtype: str  # numpy's name of it: "float32", "int64", "bool", ...
    shape: tuple[int | None, ...]  # None where any size goes; axis 0 is the batch

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{sizes}]"

    def fits(self, array: Array) -> bool:
        """Whether `array` has this dtype and shape."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(want in (None, size) for want, size in zip(self.shape, array.shape, strict=True))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineTrial:
    """What one engine gave when it was tried on a model."""

    engine: str  # as `Engine.name`
    single_ms: float = 0.0  # one item alone, milliseconds
    batch_size: int = 0  # items of the larger batch
    item_ms: float = 0.0  # an item of the larger batch, milliseconds
    max_error: float = 0.0  # `error_between` its outputs and torch's in float32
    refused: str = ""  # why it may not be used; "" if it may


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Which engine runs a model, and what each that was tried gave."""

    engine: str
    trials: tuple[EngineTrial, ...]


class Engine(Protocol):
    """A network that is ready on its device."""

    name: str
    """`torch`, `torch-compile`, `torch-export`, `torchscript`, `onnxruntime:CPU`, `openvino:CPU`."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    verdict: Verdict | None
    """How it was chosen, if it was chosen by measuring."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Runs one batch; only one thread at a time may call it.

        Raises:
            InvalidArgument: an input is missing, unknown, or of another dtype or shape; names it.
        """

    def memory_bytes(self) -> int:
        """Bytes that its weights take."""

    def close(self) -> None:
        """Gives its memory back; it cannot be run after."""


def check_inputs(specs: Sequence[TensorSpec], inputs: Arrays) -> None:
    """Checks arrays against what a network takes.

    Raises:
        InvalidArgument: one is missing, unknown, or of another dtype or shape; names it.
    """
    if len(inputs) != len(specs):
        known = {spec.name for spec in specs}
        for name in inputs:
            if name not in known:
                raise InvalidArgument(f"no such input; the model takes {describe(specs)}", field=name)
    for spec in specs:
        array = inputs.get(spec.name)
        if array is None:
            raise InvalidArgument(f"is missing; the model takes {describe(specs)}", field=spec.name)
        if not spec.fits(array):
            got = TensorSpec(spec.name, str(array.dtype), array.shape)
            raise InvalidArgument(f"should be {spec}, not {got}", field=spec.name)


def describe(specs: Sequence[TensorSpec]) -> str:
    """Specs for people: `x float32[?, 3], n int64[?]`."""
    return ", ".join(f"{spec.name} {spec}" for spec in specs)


def error_between(got: Arrays, want: Arrays) -> float:
    """How far outputs are from the reference: max |got - want| / max(1, max |want|), over all outputs.

    Infinite where shapes differ, or where one is NaN or infinite and the other is not.
    """
    worst = 0.0
    for name, reference in want.items():
        array = got[name]
        if array.shape != reference.shape:
            return float("inf")
        if not reference.size:
            continue
        ours, theirs = array.astype(np.float64), reference.astype(np.float64)
        finite = np.isfinite(theirs)
        if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
            return float("inf")
        difference = np.abs(ours[finite] - theirs[finite])
        scale = np.abs(theirs[finite]).max(initial=1.0)
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0) / scale))
    return worst


def threads() -> int:
    """CPU threads of one forward pass: what the replica was given, else half of the cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else max(1, (os.cpu_count() or 1) // 2)
