"""Tiny networks, seeded, that the tests of engines run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from meshwork.serving.engines.engine import TensorSpec


class Classifier(nn.Module):
    """Two convolutions with batch norms that are no identities, a skip, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.other = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        for norm in (self.norm, self.other):
            nn.init.uniform_(norm.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(norm.weight, 0.5, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(pixels)).relu()
        x = x + self.other(self.second(x)).relu()
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


class TwoWays(nn.Module):
    """Two inputs, of which one is integer and padded to any length; two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.embed = nn.Embedding(20, 6)
        self.mix = nn.Linear(6 + 4, 3)

    def forward(self, ids: torch.Tensor, side: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.embed(ids)
        mixed = self.mix(torch.cat([states.mean(1), side], -1))
        return {"states": states, "scores": mixed.softmax(-1)}


PIXELS = (TensorSpec("pixels", "float32", (None, 3, 12, 12)),)
LOGITS = (TensorSpec("logits", "float32", (None, 5)),)
IDS_AND_SIDE = (TensorSpec("ids", "int64", (None, None)), TensorSpec("side", "float32", (None, 4)))
SCORES_AND_STATES = (
    TensorSpec("scores", "float32", (None, 3)),
    TensorSpec("states", "float32", (None, None, 6)),
)


def pixels(batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    return {"pixels": np.random.default_rng(seed).normal(size=(batch, 3, 12, 12)).astype(np.float32)}


def ids_and_side(batch: int, length: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    return {
        "ids": random.integers(0, 20, (batch, length)),
        "side": random.normal(size=(batch, 4)).astype(np.float32),
    }


def reference(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What plain torch gives, with nothing folded or cast."""
    with torch.inference_mode():
        given = module.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    if isinstance(given, torch.Tensor):
        given = {"logits": given}
    return {name: tensor.numpy() for name, tensor in given.items()}
