"""BERT's encoder (Devlin et al., 2018), run on packed texts: no token of padding in any linear layer.

The tokens of all texts of a batch lie one behind the other in one matrix [tokens, hidden], shortest
text first. Attention alone must know where texts begin: texts of nearly the same length make a
group, and each group is attended as one [count, heads, longest, head] tensor, padded inside the
group and masked. The padding of a group is at most a quarter of it and two tokens a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

_PADDING = 1.25  # the longest text of a group is at most this much longer than its shortest, and 2 tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class BertConfig:
    """What of a Hugging Face `config.json` gives the encoder its shape."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads `config.json`.

        Raises:
            ValueError: it describes another kind of network.
        """
        content = json.loads(file.read_text(encoding="utf-8"))
        for name, known in (
            ("model_type", "bert"),
            ("hidden_act", "gelu"),
            ("position_embedding_type", "absolute"),
        ):
            if content.get(name, known) != known:
                raise ValueError(f"{file}: {name} is {content[name]!r}; only {known!r} can be run")
        missing = [name for name in cls.__slots__ if name not in content]
        if missing:
            raise ValueError(f"{file}: lacks {', '.join(missing)}")
        return cls(**{name: content[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours in the packing that are attended together."""

    start: int  # first row of the packed matrix
    stop: int
    count: int  # texts
    longest: int  # tokens of the longest
    rows: Tensor | None  # int64 [stop - start]: each token's place in [count * longest]; None if unpadded
    mask: Tensor | None  # bool [count, 1, 1, longest], true where there is a token


@dataclass(frozen=True, slots=True)
class Packing:
    """Texts one behind the other, shortest first."""

    ids: Tensor  # int64 [tokens]
    positions: Tensor  # int64 [tokens], from 0 in each text
    lengths: Tensor  # int64 [texts], ascending
    order: Tensor  # int64 [texts]: which of the given texts each is
    groups: list[Group]


def pack(texts: Sequence[NDArray[np.int64]], device: str) -> Packing:
    """Packs token ids, one array a text, none empty."""
    given = np.array([len(ids) for ids in texts])
    order = np.argsort(given, kind="stable")
    lengths = given[order]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    groups = []
    first = 0
    while first < len(lengths):
        end = int(np.searchsorted(lengths, lengths[first] * _PADDING + 2, side="right"))
        groups.append(_group(lengths[first:end], int(starts[first]), device))
        first = end
    return Packing(
        ids=torch.from_numpy(np.concatenate([texts[index] for index in order])).to(device),
        positions=torch.from_numpy(positions).to(device),
        lengths=torch.from_numpy(lengths).to(device),
        order=torch.from_numpy(order).to(device),
        groups=groups,
    )


def _group(lengths: NDArray[np.int64], start: int, device: str) -> Group:
    count, longest, tokens = len(lengths), int(lengths[-1]), int(lengths.sum())
    rows = mask = None
    if lengths[0] != longest:
        held = np.arange(longest) < lengths[:, None]  # [count, longest]
        rows = torch.from_numpy(np.flatnonzero(held)).to(device)
        mask = torch.from_numpy(held[:, None, None, :]).to(device)
    return Group(start, start + tokens, count, longest, rows, mask)


class Layer(nn.Module):
    """One transformer layer, normalised after each half, as BERT has it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.mix = nn.Linear(hidden, hidden)
        self.mix_norm = nn.LayerNorm(hidden, eps)
        self.widen = nn.Linear(hidden, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, hidden)
        self.narrow_norm = nn.LayerNorm(hidden, eps)

    def forward(self, x: Tensor, groups: Sequence[Group]) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden]."""
        packed = self.query_key_value(x)  # [tokens, 3 * hidden]
        seen = torch.empty_like(x)
        for group in groups:
            seen[group.start : group.stop] = self._attend(packed[group.start : group.stop], group)
        x = self.mix_norm(x + self.mix(seen))
        y: Tensor = self.narrow_norm(x + self.narrow(functional.gelu(self.widen(x))))
        return y

    def _attend(self, packed: Tensor, group: Group) -> Tensor:
        """[tokens of the group, 3 * hidden] -> [tokens of the group, hidden]."""
        if group.rows is not None:
            padded = packed.new_zeros(group.count * group.longest, packed.shape[1])
            packed = padded.index_copy_(0, group.rows, packed)
        split = packed.view(group.count, group.longest, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each [count, heads, longest, head]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=group.mask)
        flat = seen.transpose(1, 2).reshape(group.count * group.longest, -1)  # [count * longest, hidden]
        return flat if group.rows is None else flat[group.rows]


class Bert(nn.Module):
    """The encoder: token ids in, a vector a token out."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # Plain parameters: nn.Embedding would draw random weights, which on the meta device costs
        # the import of torch's compiler, two seconds.
        self.words = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.positions = nn.Parameter(torch.empty(config.max_position_embeddings, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, packing: Packing) -> Tensor:
        """float32 [tokens, hidden], in the packing's order."""
        x: Tensor = self.norm(self.words[packing.ids] + self.positions[packing.positions])
        for layer in self.layers:
            x = layer(x, packing.groups)
        return x


def load_bert(config: BertConfig, weights: Path, device: str) -> Bert:
    """The encoder with the weights of a Hugging Face `model.safetensors`, in float32.

    Raises:
        ValueError: a weight is missing or has another shape.
    """
    with torch.device("meta"):
        network = Bert(config)
    stored = {name.removeprefix("bert."): tensor.float() for name, tensor in load_file(weights).items()}
    try:
        network.load_state_dict(_renamed(stored, config.num_hidden_layers), assign=True)
    except KeyError as error:
        raise ValueError(f"{weights}: lacks {error.args[0]}") from error
    except RuntimeError as error:
        raise ValueError(f"{weights}: {error}") from error
    return network.to(device).eval()


def _renamed(stored: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Hugging Face's weights under this module's names."""
    embeddings = "embeddings."
    state = {
        "words": stored[f"{embeddings}word_embeddings.weight"],
        # Every token is of the first segment, so its vector can be added once and for all.
        "positions": stored[f"{embeddings}position_embeddings.weight"]
        + stored[f"{embeddings}token_type_embeddings.weight"][0],
    }
    parts = {f"{embeddings}LayerNorm": "norm"}
    for index in range(layers):
        theirs, ours = f"encoder.layer.{index}.", f"layers.{index}."
        parts[f"{theirs}attention.output.dense"] = f"{ours}mix"
        parts[f"{theirs}attention.output.LayerNorm"] = f"{ours}mix_norm"
        parts[f"{theirs}intermediate.dense"] = f"{ours}widen"
        parts[f"{theirs}output.dense"] = f"{ours}narrow"
        parts[f"{theirs}output.LayerNorm"] = f"{ours}narrow_norm"
        for kind in ("weight", "bias"):
            state[f"{ours}query_key_value.{kind}"] = torch.cat(
                [stored[f"{theirs}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            )
    for name, own in parts.items():
        for kind in ("weight", "bias"):
            state[f"{own}.{kind}"] = stored[f"{name}.{kind}"]
    return state
