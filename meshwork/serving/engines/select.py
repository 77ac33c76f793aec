"""Which engine runs a network: the one that the card names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Arrays, Engine, TensorSpec

if TYPE_CHECKING:
    import torch


def engine_for(
    module: torch.nn.Module,
    *,
    directory: ModelDirectory,
    device: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    example: Arrays,
) -> Engine:
    """The engine that the model's card asks for, ready on `device`.

    Args:
        module: the engine's from then on; keep no reference, so that its memory is given back where
            another engine takes its place. `module(**inputs)` gives a tensor, a tuple or a mapping.
        directory: its card says `engine`, `precision`, `tolerance` and `providers`.
        device: `cpu`, `cuda:0`, ...
        inputs: what the module takes, by keyword; None in a shape where any size goes.
        outputs: what it gives: matched by name if it gives a mapping with these names, else in order.
        example: one small batch of typical inputs.

    Raises:
        CardError: the engine is unknown or not installed, or cannot run this network.
    """
    card = directory.card
    name = getattr(card, "engine", "torch")
    if name != "torch":
        raise CardError(f"{directory.source}: engine: there is none named {name!r}")
    from meshwork.serving.engines.torch_eager import TorchEngine

    return TorchEngine(
        module,
        device=device,
        inputs=inputs,
        outputs=outputs,
        example=example,
        precision=getattr(card, "precision", "float32"),
    )
