"""BERT's encoder (Devlin et al., 2018), run on packed texts: no token of padding in any linear layer.

Between two attentions everything is row by row: mixing, norms, the wide layer, and the next layer's
queries, keys and values. It is done block by block, so that a block's numbers are still in the cache
when the next step wants them. Where a head reads first tokens only (classification), all that follows
the last attention's keys and values is done for those rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from services.nlp.networks.dense import Dense
from services.nlp.networks.layouts import EncoderConfig
from services.nlp.networks.packing import Group, Packing

Norm = tuple[Tensor, Tensor]  # weight and bias


class Weights:
    """A network's stored tensors by name, each checked as it is taken; on a device, in a precision."""

    def __init__(self, stored: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
        self._stored = stored
        self._device = device
        self._dtype = dtype

    def take(self, name: str, *shape: int | None) -> Tensor:
        """The tensor in float32 on the CPU; None in `shape` stands for any size.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        tensor = self._stored.get(name)
        if tensor is None:
            raise ValueError(f"the weights lack {name}")
        if len(tensor.shape) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
        ):
            raise ValueError(f"{name} should have shape {shape}, not {tuple(tensor.shape)}")
        return tensor.float()

    def placed(self, tensor: Tensor) -> Tensor:
        """`tensor` where and as the network runs."""
        return tensor.to(self._device, self._dtype)

    def dense(self, inputs: int, *names: str) -> Dense:
        """The linear layers of these names, as one whose outputs lie side by side."""
        weights = [self.take(f"{name}.weight", None, inputs) for name in names]
        biases = [self.take(f"{name}.bias", len(weight)) for name, weight in zip(names, weights, strict=True)]
        return Dense(self.placed(torch.cat(weights)), self.placed(torch.cat(biases)))

    def linear(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a linear layer of any size."""
        weight = self.take(f"{name}.weight", None, None)
        return self.placed(weight), self.placed(self.take(f"{name}.bias", len(weight)))

    def norm(self, name: str, size: int) -> Norm:
        """A layer norm."""
        return (
            self.placed(self.take(f"{name}.weight", size)),
            self.placed(self.take(f"{name}.bias", size)),
        )


class _Layer:
    """One transformer layer, normalised after each half, as BERT has it."""

    def __init__(
        self, config: EncoderConfig, weights: Weights, index: int, hidden: int, *, split: bool
    ) -> None:
        layout = config.layout
        own = layout.layer.format(index)
        names = [own + name for name in (layout.query, layout.key, layout.value)]
        # Split, the queries are made apart, for few rows.
        self.query = weights.dense(hidden, names[0]) if split else None
        self.inward = weights.dense(hidden, *(names[1:] if split else names))
        self.mix = weights.dense(hidden, own + layout.mix)
        self.mix_norm = weights.norm(own + layout.mix_norm, hidden)
        self.widen = weights.dense(hidden, own + layout.widen)
        wide = len(weights.take(f"{own}{layout.widen}.bias", None))
        self.narrow = weights.dense(wide, own + layout.narrow)
        self.narrow_norm = weights.norm(own + layout.narrow_norm, hidden)

    @property
    def nbytes(self) -> int:
        dense = (self.inward, self.mix, self.widen, self.narrow, *([self.query] if self.query else []))
        return sum(each.nbytes for each in dense)


class Encoder:
    """Token ids in, a vector out for each token, or for each text's first.

    Args:
        stored: the weights by the layout's names, without its prefix.
        first_only: give the vectors of first tokens only.

    Raises:
        ValueError: a weight is missing or has another shape.
    """

    def __init__(
        self,
        config: EncoderConfig,
        stored: Mapping[str, Tensor],
        device: torch.device,
        dtype: torch.dtype,
        *,
        first_only: bool,
    ) -> None:
        weights = Weights(stored, device, dtype)
        words = weights.take("embeddings.word_embeddings.weight", None, None)
        positions = weights.take("embeddings.position_embeddings.weight", None, words.shape[1])
        if config.layout.behind_padding:
            positions = positions[config.padding :]
        self.vocabulary, self.hidden = words.shape
        self.heads, self.eps = config.heads, config.eps
        if self.hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide {self.hidden} numbers")
        self.unplaced = config.padding if config.layout.behind_padding else None
        self.positions, self.kinds = len(positions), 1
        if config.layout.kinds:
            kinds = weights.take("embeddings.token_type_embeddings.weight", None, self.hidden)
            self.kinds = len(kinds)
            # A table of all sums, so that a token needs one look into it.
            positions = (positions + kinds[:, None]).reshape(-1, self.hidden)
        self._words, self._places = weights.placed(words), weights.placed(positions)
        self._norm = weights.norm("embeddings.LayerNorm", self.hidden)
        self._first_only = first_only
        last = config.layers - 1
        self._layers = [
            _Layer(config, weights, index, self.hidden, split=first_only and index == last)
            for index in range(config.layers)
        ]

    @property
    def longest(self) -> int:
        """The most tokens of a text."""
        return self.positions - (self.unplaced is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self._words.nbytes + self._places.nbytes + sum(layer.nbytes for layer in self._layers)

    def __call__(self, packing: Packing) -> Tensor:
        """[rows, hidden] in the packing's order, or [texts, hidden] of the first tokens."""
        x = functional.embedding(packing.ids, self._words)
        x += functional.embedding(packing.places, self._places)
        first = self._layers[0]

        def begun(block: slice) -> tuple[Tensor, Tensor]:
            ready = self._normed(x[block], self._norm)
            return ready, first.inward(ready)  # queries, keys, values

        rows, inward = _blockwise(packing, begun)
        for layer, following in zip(self._layers, [*self._layers[1:], None], strict=True):
            if layer.query is not None:
                firsts = rows[torch.from_numpy(packing.starts).to(x.device)]
                return self._finished(layer, firsts, self._seen_by(layer.query(firsts), inward, packing))
            rows, inward = _blockwise(
                packing, partial(self._step, layer, following, rows, self._seen(inward, packing))
            )
        return rows

    def _step(
        self, layer: _Layer, following: _Layer | None, rows: Tensor, seen: Tensor, block: slice
    ) -> tuple[Tensor, Tensor]:
        """A block's rows behind `layer`, and what the following layer's attention takes of them."""
        ready = self._finished(layer, rows[block], seen[block])
        return ready, ready if following is None else following.inward(ready)

    def _seen(self, inward: Tensor, packing: Packing) -> Tensor:
        """What each token sees of its text: [rows, 3 * hidden] -> [rows, hidden]."""
        seen = inward.new_zeros(len(inward), self.hidden)
        for group in packing.groups:
            query, key, value = self._split(inward, group, 3)
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=group.mask)
            found = found.transpose(1, 2).reshape(-1, self.hidden)  # [count * longest, hidden]
            target = seen[group.start : group.stop]
            if group.held is None:
                target.copy_(found)
            else:
                torch.index_select(found, 0, group.held, out=target)
        return seen

    def _seen_by(self, queries: Tensor, inward: Tensor, packing: Packing) -> Tensor:
        """What one query a text sees of it: [texts, hidden], [rows, 2 * hidden] -> [texts, hidden]."""
        seen = torch.empty_like(queries)
        for group in packing.groups:
            texts = slice(group.first, group.first + group.count)
            query = queries[texts].view(group.count, self.heads, 1, -1)
            key, value = self._split(inward, group, 2)
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=group.mask)
            seen[texts] = found.reshape(group.count, self.hidden)
        return seen

    def _split(self, inward: Tensor, group: Group, parts: int) -> Tensor:
        """A group's rows as [parts, count, heads, longest, head]."""
        rows = inward[group.start : group.stop]
        if group.spread is not None:
            rows = rows.index_select(0, group.spread)
        return rows.view(group.count, group.longest, parts, self.heads, -1).permute(2, 0, 3, 1, 4)

    def _finished(self, layer: _Layer, x: Tensor, seen: Tensor) -> Tensor:
        """A layer's rows from its input and what attention saw, all [rows, hidden]."""
        x = self._normed(layer.mix.onto(x, seen), layer.mix_norm)
        return self._normed(layer.narrow.onto(x, layer.widen.gelu(x)), layer.narrow_norm)

    def _normed(self, x: Tensor, norm: Norm) -> Tensor:
        return functional.layer_norm(x, (self.hidden,), *norm, self.eps)


def _blockwise(packing: Packing, step: Callable[[slice], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What `step` makes of each block of rows, put together."""
    made = [step(block) for block in packing.blocks]
    if len(made) == 1:
        return made[0]
    left, right = zip(*made, strict=True)
    return torch.cat(left), torch.cat(right)
