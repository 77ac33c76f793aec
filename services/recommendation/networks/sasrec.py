"""SASRec: what comes next in a sequence of items, by causal self-attention over it.

Wang-Cheng Kang, Julian McAuley: Self-Attentive Sequential Recommendation, ICDM 2018
(https://arxiv.org/abs/1808.09781). Items and positions are embedded and added; blocks of causal
attention and a point-wise feed-forward net follow; the score of item i as the next one is the dot
product of the last output with i's embedding, the same table that embeds the input (section III.D).

Sequences are padded on the right: under the causal mask no item ever sees what stands to its right,
so padding needs no mask and cannot change a result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it


@dataclass(frozen=True, kw_only=True, slots=True)
class SASRecConfig:
    """Sizes of the network; `config.json` of a model directory holds these."""

    items: int  # in the catalogue
    width: int  # of an embedding
    blocks: int
    heads: int  # divides width
    length: int  # most items of a history that it looks at, the latest ones
    dropout: float = 0.2  # while training

    def __post_init__(self) -> None:
        sizes = (self.items, self.width, self.blocks, self.heads, self.length)
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError("items, width, blocks, heads and length should be whole numbers above 0")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} should be a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout should be from 0 to below 1, not {self.dropout}")


class Block(nn.Module):
    """Causal self-attention, then a point-wise feed-forward net, each behind a layer norm."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention_in = nn.Linear(config.width, 3 * config.width)
        self.attention_out = nn.Linear(config.width, config.width)
        self.feed_norm = nn.LayerNorm(config.width)
        self.feed_in = nn.Linear(config.width, config.width)
        self.feed_out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D); position t depends on positions 0 to t."""
        batch, length, width = x.shape
        mixed = self.attention_in(self.attention_norm(x))  # (B, T, 3D)
        mixed = mixed.view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
        seen = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )  # (B, H, T, D/H)
        seen = seen.transpose(1, 2).reshape(batch, length, width)  # (B, T, D)
        x = x + F.dropout(self.attention_out(seen), self.dropout, self.training)
        fed = self.feed_out(F.relu(self.feed_in(self.feed_norm(x))))  # (B, T, D)
        return x + F.dropout(fed, self.dropout, self.training)


class SASRec(nn.Module):
    """The network. Items are numbered 0 to `items - 1`; `padding` is the number after those."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.padding = config.items
        self.item = nn.Embedding(config.items + 1, config.width, padding_idx=config.items)
        self.position = nn.Embedding(config.length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.item.weight, std=0.05)
        nn.init.normal_(self.position.weight, std=0.05)

    def forward(self, items: Tensor) -> Tensor:
        """What is expected after each position.

        Args:
            items: (B, T) item numbers, oldest first, padded on the right; T is at most `length`.

        Returns:
            (B, T, D): at t, the state of a history of the items 0 to t.
        """
        positions = torch.arange(items.shape[1], device=items.device)  # (T,)
        x = self.item(items) * self.config.width**0.5 + self.position(positions)  # (B, T, D)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def scores(self, states: Tensor) -> Tensor:
        """(…, D) states -> (…, items) scores of each item as the next one; higher is likelier."""
        return states @ self.item.weight[: self.config.items].T
