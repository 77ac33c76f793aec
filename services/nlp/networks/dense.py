"""Linear layers with what follows them in the same kernel, where the processor's library has one.

oneDNN multiplies by a weight that was put in order once (see `packed_linear`), and applies GELU or adds
the residual while the product is in registers. These are the operators that torch.compile itself emits
for the CPU; elsewhere the plain ones are used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from services.nlp.networks.packed_linear import can_pack


class Dense:
    """x W^T + b, of rows [n, inputs] -> [n, outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._bias = bias.contiguous()
        self.outputs = len(weight)
        self.nbytes = weight.nbytes + bias.nbytes
        self._fused: Any = None
        self._weight = weight.contiguous()
        if can_pack(weight.device, weight.dtype):
            self._fused = torch.ops.mkldnn._linear_pointwise
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        """The product alone."""
        if self._fused is None:
            return functional.linear(x, self._weight, self._bias)
        return self._fused(x, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]

    def gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of the product."""
        if self._fused is None:
            return functional.gelu(self(x))
        return self._fused(x, self._weight, self._bias, "gelu", [], "none")  # type: ignore[no-any-return]

    def onto(self, residual: Tensor, x: Tensor) -> Tensor:
        """The residual plus the product."""
        if self._fused is None:
            return residual + self(x)
        summed: Tensor = self._fused.binary(x, residual, self._weight, self._bias, "add")
        return summed
