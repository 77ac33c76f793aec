"""A network that is a file of its own: what a module and its tensors are, wherever it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Arrays, TensorSpec

_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFile:
    """A module that was read from a file."""

    module: nn.Module  # takes and gives tensors by the names of `inputs` and `outputs`
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: Arrays
    native: str  # the engine's name that runs the module as it is


def wire_dtype(dtype: torch.dtype) -> str:
    """numpy's name of a dtype as it is served: float32 stands for what is narrower."""
    return "float32" if dtype in _HALVES else str(dtype).removeprefix("torch.")


def specs_in_card(directory: ModelDirectory, key: str) -> tuple[TensorSpec, ...]:
    """The tensors that the card lists under `parameters`; none if it lists none.

    ::

        parameters:
          inputs: [{name: pixels, dtype: float32, shape: [null, 3, 224, 224]}]

    Raises:
        CardError: an entry is not such a mapping.
    """
    listed = directory.card.parameters.get(key, [])
    try:
        return tuple(_spec(**entry) for entry in listed)
    except (TypeError, ValueError) as error:
        raise CardError(
            f"{directory.source}: parameters: {key}: should list entries such as "
            f"{{name: x, dtype: float32, shape: [null, 3]}}: {error}"
        ) from error


def _spec(name: str, dtype: str, shape: Sequence[int | None]) -> TensorSpec:
    if not isinstance(name, str) or not name:
        raise ValueError(f"name: should be text, not {name!r}")
    if any(size is not None and (not isinstance(size, int) or size < 1) for size in shape):
        raise ValueError(f"shape: should have sizes, or null where any goes, not {list(shape)}")
    return TensorSpec(name, np.dtype(dtype).name, tuple(shape))
