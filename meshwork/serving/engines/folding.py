"""Folding batch norms into the convolutions before them, which gives the same network with less to do.

A pair is found by watching one run: a batch norm whose input is the very tensor that a convolution
gave, each of them used once. Then W' = W g / sqrt(v + eps) and b' = (b - m) g / sqrt(v + eps) + beta.
What else may read the convolution's output is not seen, so the folded network is run again, and
everything is put back if its outputs are not the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 1e-4  # of max(1, largest output)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, run: Callable[[], tuple[torch.Tensor, ...]]) -> int:
    """Folds what can be folded in `network`, in place.

    Args:
        network: in eval mode.
        run: runs it on an example and gives its outputs.

    Returns:
        The number of batch norms that are gone.
    """
    before, pairs = _observe(network, run)
    kept = [(convolution, convolution.weight, convolution.bias) for convolution, _ in pairs]
    for convolution, norm in pairs:
        fused = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = fused
    norms: dict[Any, nn.Module] = {norm: nn.Identity() for _, norm in pairs}
    _replace(network, norms)
    if all(_same(after, expected) for after, expected in zip(run(), before, strict=True)):
        return len(pairs)
    _replace(network, {identity: norm for norm, identity in norms.items()})
    for convolution, weight, bias in kept:
        convolution.weight, convolution.bias = weight, bias
    return 0


def _observe(
    network: nn.Module, run: Callable[[], tuple[torch.Tensor, ...]]
) -> tuple[tuple[torch.Tensor, ...], list[tuple[Any, Any]]]:
    """The outputs of a run, and each convolution with the batch norm that took its output."""
    made_by: dict[int, Any] = {}  # id of a tensor -> the convolution that gave it
    alive: list[Any] = []  # keeps those tensors, so that their ids stay theirs
    calls: dict[Any, int] = {}
    found: list[tuple[Any, Any]] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, _CONVOLUTIONS):
            made_by[id(output)] = module
            alive.append(output)
        elif args and id(args[0]) in made_by:
            found.append((made_by[id(args[0])], module))

    watched = [module for module in network.modules() if isinstance(module, _CONVOLUTIONS + _NORMS)]
    hooks = [module.register_forward_hook(watch) for module in watched]
    try:
        outputs = run()
    finally:
        for hook in hooks:
            hook.remove()
    pairs = [
        (convolution, norm)
        for convolution, norm in found
        if calls[convolution] == calls[norm] == 1 and norm.track_running_stats and not norm.training
    ]
    return outputs, pairs


def _replace(network: nn.Module, instead: dict[Any, nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if child in instead:
                setattr(module, name, instead[child])


def _same(after: torch.Tensor, before: torch.Tensor) -> bool:
    scale = max(1.0, float(before.abs().max())) if before.numel() else 1.0
    return after.shape == before.shape and torch.allclose(
        after.float(), before.float(), rtol=0, atol=_TOLERANCE * scale, equal_nan=True
    )
