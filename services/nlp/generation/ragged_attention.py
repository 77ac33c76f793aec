"""Attention of sequences of different lengths in one forward pass, each over its own keys and values.

A step's tokens lie one behind the other in a single row, without padding: first one token of each
sequence that is writing, then pieces of prompts. All layers but attention work token by token and see
one large batch; attention is done here, by sequence, over memory that the sequence owns:

    out(token) = softmax(scale * q(token) . K[first..position]) V[first..position]

`transformers` calls it through its attention interface, so that any of its decoders that uses that
interface runs as it is. Heads that share keys (grouped queries) are rows of one product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "meshwork_ragged"  # as transformers knows it


@dataclass(frozen=True, slots=True)
class KeyValueShape:
    """What a network remembers of one token."""

    layers: int
    heads: int  # of keys; queries may have a multiple of it
    dimension: int  # of a head
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.layers * self.heads * self.dimension * self.dtype.itemsize

    def memory(self, tokens: int) -> Tensor:
        """Room for `tokens`: [layers, 2 (keys, values), heads, tokens, dimension]."""
        shape = (self.layers, 2, self.heads, tokens, self.dimension)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of one sequence in a step."""

    memory: Tensor  # the sequence's, as KeyValueShape.memory made it
    start: int  # position of the first of them in the sequence
    count: int


class Step:
    """Where each token of one forward pass belongs; made once and read by every layer.

    Args:
        writing: sequences that give one token each, at their `start`.
        reading: pieces of prompts, behind them.
    """

    def __init__(self, writing: Sequence[Span], reading: Sequence[Span]) -> None:
        self.layers_done = 0
        self._memory_dtype = (*writing, *reading)[0].memory.dtype
        self._writing = len(writing)
        # By sequence, then by layer: views, made here by one call for all layers.
        slots = [span.memory.select(3, span.start).unbind(0) for span in writing]
        keys = [span.memory[:, :1, :, : span.start + 1].unbind(0) for span in writing]
        values = [span.memory[:, 1:, :, : span.start + 1].unbind(0) for span in writing]
        self._slots = list(zip(*slots, strict=True))  # layer -> [2, heads, dimension] of each
        self._keys = list(zip(*keys, strict=True))  # layer -> [1, heads, tokens, dimension] of each
        self._values = list(zip(*values, strict=True))
        self._reading: list[tuple[int, Span]] = []
        row = self._writing
        for span in reading:
            self._reading.append((row, span))
            row += span.count

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int
    ) -> Tensor:
        """One layer's attention; keeps the new keys and values.

        Args:
            layer: number of the layer, from 0.
            query: [query heads, rows, dimension].
            key, value: [heads, rows, dimension].
            scale: factor of the dot products.
            window: positions that a token sees, itself included; 0 for all.

        Returns:
            [rows, query heads, dimension].
        """
        self.layers_done += 1
        remembered = self._memory_dtype
        new = torch.stack((key, value)).to(remembered)  # [2, heads, rows, dimension]
        asked = query.to(remembered)
        outs: list[Tensor] = []
        if self._writing:
            outs += self._write(layer, asked[:, : self._writing], new[:, :, : self._writing], scale, window)
        for row, span in self._reading:
            rows = slice(row, row + span.count)
            outs.append(_read(span, layer, asked[:, rows], new[:, :, rows], scale, window))
        return torch.cat(outs).to(query.dtype)

    def _write(self, layer: int, query: Tensor, new: Tensor, scale: float, window: int) -> Iterator[Tensor]:
        """One token of each writing sequence: [1, query heads, dimension] each."""
        _, heads, rows, dimension = new.shape
        torch._foreach_copy_(self._slots[layer], new.unbind(2))
        # Query heads that share keys stand as rows of one product.
        grouped = query.view(1, heads, -1, rows, dimension).unbind(3)
        for each, keys, values in zip(grouped, self._keys[layer], self._values[layer], strict=True):
            if window:
                keys, values = keys[:, :, -window:], values[:, :, -window:]
            out = scaled_dot_product_attention(each, keys, values, scale=scale)
            yield out.view(1, -1, dimension)


def _read(span: Span, layer: int, query: Tensor, new: Tensor, scale: float, window: int) -> Tensor:
    """A piece of a prompt: [tokens, query heads, dimension]."""
    end = span.start + span.count
    memory = span.memory[layer]
    memory[:, :, span.start : end] = new
    keys, values = memory[:, None, :, :end].unbind(0)
    plain = span.start == 0 and (not window or window >= end)
    mask = None if plain else _seen(span.start, end, window, query.device)
    out = scaled_dot_product_attention(
        query[None],
        keys,
        values,
        attn_mask=mask,
        is_causal=plain,
        scale=scale,
        enable_gqa=query.shape[0] != keys.shape[1],
    )
    return out[0].transpose(0, 1)


def _seen(start: int, end: int, window: int, device: torch.device) -> Tensor:
    """Which positions each token from `start` sees: [end - start, end]."""
    seen = torch.ones(end - start, end, dtype=torch.bool, device=device).tril(start)
    return seen.triu(start + 1 - window) if window else seen


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _: Tensor | None,
    *,
    step: Step,
    scaling: float,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer: [1, heads, rows, dimension] to [1, rows, heads, dimension]."""
    for name in ("softcap", "s_aux"):
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    out = step.attend(module.layer_idx, query[0], key[0], value[0], scaling, sliding_window or 0)
    return out[None], None
