"""A small encoder-decoder transformer (Vaswani et al., 2017; pre-norm), and its greedy decoding.

Shapes: B sentences, S source and T target positions, D the width, H heads of D/H each, V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PAD = 0
END = 1
_FIRST_TAG = 2  # the languages' tags follow, in the config's order


@dataclass(frozen=True, kw_only=True, slots=True)
class Seq2SeqConfig:
    """The network's size."""

    vocabulary: int  # V, special tokens included
    width: int  # D, a multiple of heads
    heads: int  # H
    layers: int  # of the encoder, and as many of the decoder
    languages: tuple[str, ...]  # each has a tag: first source token, first target token
    dropout: float = 0.0  # in training only

    def tag(self, language: str) -> int:
        """The token that says "this is in that language"."""
        return _FIRST_TAG + self.languages.index(language)


Cache = tuple[Tensor, Tensor]  # keys and values, each (B, H, positions, D/H)
Written = tuple[list[int], list[float]]  # tokens and log probabilities


class Attention(nn.Module):
    """Multi-head attention from one sequence to itself or to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project(self, memory: Tensor) -> Cache:
        """Keys and values of `memory` (B, S, D)."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, x: Tensor, cache: Cache, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Attends from `x` (B, T, D) to `cache`; `mask` (B, 1, 1, S) is true where there is something."""
        mixed = functional.scaled_dot_product_attention(
            self._split(self.query(x)), *cache, attn_mask=mask, is_causal=causal
        )
        batch, _, length, _ = mixed.shape
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))  # type: ignore[no-any-return]  # (B, T, D)

    def _split(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, T, D/H)


class Block(nn.Module):
    """Self-attention, in the decoder attention to the source, and a feed-forward net of width 4D."""

    def __init__(self, config: Seq2SeqConfig, *, crossed: bool) -> None:
        super().__init__()
        width = config.width
        self.self_norm, self.self_attention = nn.LayerNorm(width), Attention(width, config.heads)
        if crossed:
            self.cross_norm, self.cross_attention = nn.LayerNorm(width), Attention(width, config.heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def attend(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Self-attention over whole sequences."""
        normed = self.self_norm(x)
        cache = self.self_attention.project(normed)
        return x + self.dropout(self.self_attention(normed, cache, mask, causal))  # type: ignore[no-any-return]

    def step(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Self-attention of the newest position (B, 1, D) to all before it, which `cache` holds."""
        normed = self.self_norm(x)
        keys, values = self.self_attention.project(normed)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], dim=2), torch.cat([cache[1], values], dim=2)
        return x + self.self_attention(normed, (keys, values), None), (keys, values)

    def cross(self, x: Tensor, cache: Cache, mask: Tensor) -> Tensor:
        """Attention to the source."""
        return x + self.dropout(self.cross_attention(self.cross_norm(x), cache, mask))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward net, position by position."""
        return x + self.dropout(self.feed(self.feed_norm(x)))  # type: ignore[no-any-return]


class Seq2Seq(nn.Module):
    """The translator: one network for all directions, told the target by the first target token."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.encoder = nn.ModuleList(Block(config, crossed=False) for _ in range(config.layers))
        self.decoder = nn.ModuleList(Block(config, crossed=True) for _ in range(config.layers))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.decoder_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Source tokens (B, S), padded with PAD, to memory (B, S, D) and its mask (B, 1, 1, S)."""
        mask = (source != PAD)[:, None, None, :]
        x = self._embed(source, 0)
        for block in self.encoder:
            x = block.feed_forward(block.attend(x, mask, False))  # type: ignore[operator]
        return self.encoder_norm(x), mask

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of `target` (B, T), for training."""
        memory, mask = self.encode(source)
        x = self._embed(target, 0)
        for block in self.decoder:
            x = block.attend(x, None, True)  # type: ignore[operator]
            x = block.cross(x, block.cross_attention.project(memory), mask)  # type: ignore[operator, union-attr]
            x = block.feed_forward(x)  # type: ignore[operator]
        return self._logits(x)

    @torch.inference_mode()
    def decode(self, source: Tensor, tags: Tensor, limits: Sequence[int]) -> list[Written]:
        """Greedy translations.

        Args:
            source: (B, S) tokens, padded with PAD.
            tags: (B,) the target languages' tags.
            limits: B numbers: the most tokens to write for each sentence, END included.

        Returns:
            For each sentence its tokens, without tag and END, and the log probability of each token
            including END. A sentence that met its limit has no END, and as many of both.
        """
        memory, mask = self.encode(source)
        crossed = [block.cross_attention.project(memory) for block in self.decoder]  # type: ignore[operator, union-attr]
        caches: list[Cache | None] = [None] * len(self.decoder)
        written: list[Written] = [([], []) for _ in range(len(source))]
        rows = list(range(len(source)))  # the sentence that each row of the shrinking batch belongs to
        token = tags[:, None]
        for position in range(max(limits)):
            x = self._embed(token, position)  # (B, 1, D)
            for index, block in enumerate(self.decoder):
                x, caches[index] = block.step(x, caches[index])  # type: ignore[operator]
                x = block.feed_forward(block.cross(x, crossed[index], mask))  # type: ignore[operator]
            log_probabilities = self._logits(x[:, -1]).log_softmax(dim=-1)  # (B, V)
            best, token_flat = log_probabilities.max(dim=-1)
            going = []
            for row, chosen, log_probability in zip(
                range(len(rows)), token_flat.tolist(), best.tolist(), strict=True
            ):
                tokens, scores = written[rows[row]]
                scores.append(log_probability)
                if chosen != END:
                    tokens.append(chosen)
                    if len(scores) < limits[rows[row]]:
                        going.append(row)
            if not going:
                break
            token = token_flat[:, None]
            if len(going) < len(rows):
                rows = [rows[row] for row in going]
                keep = torch.tensor(going, device=source.device)
                token, mask = token[keep], mask[keep]
                crossed = [(keys[keep], values[keep]) for keys, values in crossed]
                caches = [cache and (cache[0][keep], cache[1][keep]) for cache in caches]
        return written

    def _embed(self, tokens: Tensor, offset: int) -> Tensor:
        width = self.config.width
        x = self.embedding(tokens) * math.sqrt(width)
        return self.dropout(x + _positions(offset, tokens.shape[1], width, x))  # type: ignore[no-any-return]

    def _logits(self, x: Tensor) -> Tensor:
        return functional.linear(self.decoder_norm(x), self.embedding.weight)


def _positions(offset: int, length: int, width: int, like: Tensor) -> Tensor:
    """Sinusoids (length, D) of the paper's section 3.5, for positions from `offset` on."""
    steps = torch.arange(offset, offset + length, device=like.device, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    angles = steps * rates  # (length, D/2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(like.dtype)
