"""Linear layers with what follows them in the same kernel, where the processor's library has one.

oneDNN multiplies by a weight that was reordered once, and applies GELU or adds the residual while the
product is in registers. These are the operators that torch.compile itself emits for the CPU; they are
tried once, and plain operators are used where they are missing or wrong.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Dense:
    """x W^T + b, of rows [n, inputs] -> [n, outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._bias = bias.contiguous()
        self.outputs = len(weight)
        self.nbytes = weight.nbytes + bias.nbytes
        self._fused: Any = None
        if weight.device.type == "cpu" and _has_fused(weight.dtype):
            self._fused = torch.ops.mkldnn._linear_pointwise
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        else:
            self._weight = weight.contiguous()

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


@functools.cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN's operators are there for `dtype` and compute what they should."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype != torch.float32 and not (
            dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        ):
            return False
        with torch.inference_mode():
            x = torch.linspace(-2, 2, 64).reshape(4, 16).to(dtype)
            weight, bias = torch.linspace(-1, 1, 128).reshape(8, 16).to(dtype), torch.ones(8, dtype=dtype)
            ready = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            got = torch.ops.mkldnn._linear_pointwise(x, ready, bias, "gelu", [], "none")
            summed = torch.ops.mkldnn._linear_pointwise.binary(x, got, ready, bias, "add")
            wanted = functional.gelu(functional.linear(x, weight, bias))
            near = 1e-4 if dtype == torch.float32 else 0.1
            return bool(
                torch.allclose(got, wanted, atol=near, rtol=near)
                and torch.allclose(summed, wanted + functional.linear(x, weight, bias), atol=near, rtol=near)
            )
    except (RuntimeError, AttributeError, TypeError):
        return False
