"""The reference engine: the module as it is, run by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from meshwork.serving.devices import torch_device
from meshwork.serving.engines.engine import Array, TensorSpec


class TorchEngine:
    """A torch module behind named arrays.

    Args:
        module: takes the inputs as keyword arguments; gives a tensor, a sequence, or a mapping.
        device: `cpu`, `cuda:0`.
    """

    name = "torch"

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        device: str = "cpu",
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._device = torch_device(device)
        self._module = module.to(self._device).eval()
        self._dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch; floating outputs come as float32."""
        given = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
        given = {name: t.to(self._dtype) if t.is_floating_point() else t for name, t in given.items()}
        return named(self._module(**given), self.outputs)

    def memory_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        held = [*self._module.parameters(), *self._module.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def close(self) -> None:
        """Nothing beyond garbage collection."""


def named(answer: Any, outputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """What a module returned, as arrays by the names of `outputs`: by name, or in order."""
    if isinstance(answer, Mapping):
        tensors = [answer[spec.name] for spec in outputs]
    elif isinstance(answer, torch.Tensor):
        tensors = [answer]
    else:
        assert isinstance(answer, Sequence)
        tensors = list(answer)[: len(outputs)]
    return {
        spec.name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
        for spec, tensor in zip(outputs, tensors, strict=True)
    }
