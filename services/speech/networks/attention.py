"""Where chosen heads of a decoder look: their cross-attention, and no one else's.

Asking transformers for `output_attentions` keeps every head of every layer, gigabytes for a large model,
and turns the fast kernels off. The few heads that tell time are computed from what their layer is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Head = tuple[int, int]  # (layer, head)


class Attention:
    """Gathers the heads' attention over what a Whisper decoder reads within a `with`.

    Args:
        model: a WhisperForConditionalGeneration; its decoder is called without a cache.
        heads: which to gather.
    """

    def __init__(self, model: Any, heads: Sequence[Head]) -> None:
        self._heads = heads
        self._layers = model.get_decoder().layers
        self._seen: dict[Head, list[Tensor]] = {head: [] for head in heads}
        self._hooks = ExitStack()

    def __enter__(self) -> Attention:
        for layer in {layer for layer, _ in self._heads}:
            attention = self._layers[layer].encoder_attn
            hook = attention.register_forward_pre_hook(self._look(layer), with_kwargs=True)
            self._hooks.callback(hook.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _look(self, layer: int) -> Any:
        picked = [head for each, head in self._seen if each == layer]

        def look(module: Any, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
            hidden = given[0] if given else named["hidden_states"]  # [n, tokens, width]
            encoded = given[1] if len(given) > 1 else named["key_value_states"]  # [n, steps, width]
            queries = _by_head(module.q_proj(hidden) * module.scaling, module.num_heads)[:, picked]
            keys = _by_head(module.k_proj(encoded), module.num_heads)[:, picked]
            weights = torch.softmax(queries @ keys.transpose(-1, -2), -1).float().cpu()
            for index, head in enumerate(picked):
                self._seen[layer, head].append(weights[:, index])

        return look

    def maps(self) -> npt.NDArray[np.float32]:
        """[n, heads, tokens, steps], the heads in the order given."""
        stacked: npt.NDArray[np.float32] = torch.stack(
            [torch.cat(self._seen[head]) for head in self._heads], 1
        ).numpy()
        return stacked


def _by_head(states: Tensor, heads: int) -> Tensor:
    return states.view(*states.shape[:2], heads, -1).transpose(1, 2)  # [n, heads, length, width of a head]
