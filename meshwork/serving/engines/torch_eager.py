"""torch as it is, the engine that every other is held to.

What makes it fast without changing what it computes: batch norms folded into convolutions, images in
`channels_last` where the convolutions prefer it, no autograd, and bfloat16 or float16 where the model
declares it and the device computes in it fast.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import Array, Arrays, TensorSpec, Verdict, check_inputs, describe
from meshwork.serving.engines.folding import fold_batch_norms
from meshwork.serving.engines.placement import Placement, placement

log = logging.getLogger(__name__)


class NamedNetwork(nn.Module):
    """A module as positional tensors in the order of `inputs`, to a tuple in the order of `outputs`.

    Args:
        module: `module(**inputs)` gives a tensor, a tuple, or a mapping (a transformers output). What
            it gives is cast to what `outputs` says.

    Attributes:
        dtype: what floating inputs are cast to; None leaves them as they come.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        super().__init__()
        self.module = module
        self.dtype: torch.dtype | None = None
        self._inputs = [spec.name for spec in inputs]
        self._outputs = [(spec.name, getattr(torch, spec.dtype)) for spec in outputs]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the module."""
        named = {
            name: tensor.to(self.dtype) if self.dtype and tensor.is_floating_point() else tensor
            for name, tensor in zip(self._inputs, tensors, strict=True)
        }
        given = self.module(**named)
        return tuple(
            tensor.to(dtype) for tensor, (_, dtype) in zip(self._ordered(given), self._outputs, strict=True)
        )

    def _ordered(self, given: Any) -> list[torch.Tensor]:
        if isinstance(given, torch.Tensor):
            return [given]
        if isinstance(given, Mapping):
            if all(name in given for name, _ in self._outputs):
                return [given[name] for name, _ in self._outputs]
            given = tuple(given.values())
        return list(given)[: len(self._outputs)]


class TorchEngine:
    """A module, run by torch in float32; `at` gives it in another precision.

    Args:
        module: the engine's from then on: it is moved, cast and folded in place.
        device: `cpu`, `cuda:0`, ...
        inputs: what `module` takes, by keyword.
        outputs: what it gives, by name or in order.
        example: one small batch; without one, batch norms are not folded.
        name: `torch`, or what the module came from.

    Raises:
        CardError: there is no such device, or the module does not take the example.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        example: Arrays | None = None,
        name: str = "torch",
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
        self.verdict: Verdict | None = None
        self.place = placement(device)
        self._channels_last = _prefers_channels_last(module, self.place)
        network = NamedNetwork(module, inputs, outputs).eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        try:
            self.network = self._ready(network, example)
        except CardError:
            raise
        except Exception as error:
            raise CardError(
                f"the network does not run on {describe(inputs)}: {type(error).__name__}: {error}"
            ) from error

    def _ready(self, network: NamedNetwork, example: Arrays | None) -> Any:
        network.to(self.place.device)
        if example is not None:
            tensors = [self.place.put(example[spec.name]) for spec in self.inputs]
            folded = fold_batch_norms(network, lambda: network(*tensors))
            log.debug("folded %d batch norms", folded)
        if self._channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.place.settle()
        return network

    def at(self, precision: str) -> Self:
        """This engine in `precision`, with weights of its own unless it computes in that already.

        Where the device does not compute in `precision` fast, it is float32 that it gives.
        """
        other = copy.copy(self)
        if precision != "float32" and self.place.holds(precision):
            other.network = copy.deepcopy(self.network)
            other.network.dtype = getattr(torch, precision)
            other.network.module.to(other.network.dtype)
            self.place.settle()
        return other

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Runs one batch; a float image whose memory is laid out NHWC is used as it lies.

        Raises:
            InvalidArgument: an input is missing, unknown, or of another dtype or shape; names it.
        """
        check_inputs(self.inputs, inputs)
        with self.place.batch():
            tensors = [self._put(inputs[spec.name]) for spec in self.inputs]
            arrays = self.place.fetch(self.network(*tensors))
        return {spec.name: array for spec, array in zip(self.outputs, arrays, strict=True)}

    def _put(self, array: Array) -> torch.Tensor:
        tensor = self.place.put(array)
        if self._channels_last and tensor.dim() == 4:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def memory_bytes(self) -> int:
        """Bytes of the parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.network.state_dict().values()) if self.network else 0

    def close(self) -> None:
        """Drops the network, and on CUDA what torch keeps for reuse."""
        self.network = None
        if self.place.device.type == "cuda":
            torch.cuda.empty_cache()


def _prefers_channels_last(module: nn.Module, place: Placement) -> bool:
    if not any(isinstance(each, nn.Conv2d) for each in module.modules()):
        return False
    return place.device.type == "cpu" or place.holds("bfloat16")
