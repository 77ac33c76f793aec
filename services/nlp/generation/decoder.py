"""A decoder of transformers, run step by step over sequences of different lengths.

The network is transformers' own, its weights as they were loaded; only its attention is
`ragged_attention`, and on a CPU its linear layers are `packed_linear`. Because that swap is right only
for networks that keep to the attention interface, `Decoder` holds what it computes to what the network
answered before, and refuses a network whose answers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from services.nlp.generation import ragged_attention
from services.nlp.generation.ragged_attention import KeyValueShape, Span, Step
from services.nlp.networks.packed_linear import can_pack, pack_linears, weight_bytes

_CHECKED_TOKENS = 12  # of the check at load: read in two pieces, the last one written
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}  # of the largest logit
_STRETCHED_ROPE = ("dynamic", "longrope")  # positions that depend on how long the whole text is


class UnfitError(ValueError):
    """The network cannot be run step by step; says why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens of one sequence in a step."""

    memory: Tensor  # the sequence's keys and values
    start: int  # position of the first
    ids: Sequence[int]

    @property
    def span(self) -> Span:
        """Where they stand."""
        return Span(self.memory, self.start, len(self.ids))


class Decoder:
    """Computes what follows.

    Args:
        network: a causal language model of transformers, in eval mode, on its device.

    Raises:
        UnfitError: the network does not keep to transformers' attention interface.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = cast(Any, network)
        config: Any = network.config
        embeddings: Tensor = self._network.get_input_embeddings().weight
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") in _STRETCHED_ROPE:
            raise UnfitError(f"rope_type {rope['rope_type']!r} changes with the length of a text")
        weight = next(network.parameters())
        device, dtype = weight.device, weight.dtype
        self.context_tokens = int(config.max_position_embeddings)
        self.vocabulary = min(int(config.vocab_size), len(embeddings))
        self.shape = KeyValueShape(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            dimension=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            # A CPU multiplies single rows of bfloat16 several times slower than of float32.
            dtype=torch.float32 if device.type == "cpu" else dtype,
            device=device,
        )
        own = self._own_answer()
        _use_ragged_attention(self._network)
        if can_pack(device, dtype):
            pack_linears(network)
        self.memory_bytes = weight_bytes(network)
        error = float((self._checked_answer() - own).abs().max() / own.abs().max().clamp(min=1e-6))
        if not error <= _TOLERANCE[dtype]:
            raise UnfitError(f"run step by step, its logits differ by {error:.2g} from transformers' own")

    @torch.inference_mode()
    def step(self, writing: Sequence[Rows], reading: Sequence[Rows], *, ends: Sequence[int]) -> Tensor:
        """Runs one step.

        Args:
            writing: sequences with one token each.
            reading: pieces of prompts.
            ends: of all tokens in a row, `writing` first, those whose successor is asked for.

        Returns:
            float32 [len(ends), vocabulary]: logits of what follows each.
        """
        pieces = [*writing, *reading]
        device = self.shape.device
        ids = torch.tensor([[token for piece in pieces for token in piece.ids]], device=device)
        positions = torch.tensor(
            [[piece.start + i for piece in pieces for i in range(len(piece.ids))]], device=device
        )
        step = Step([piece.span for piece in writing], [piece.span for piece in reading])
        out = self._network(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=torch.tensor(ends, dtype=torch.int64, device=device),
            step=step,
        )
        if step.layers_done != self.shape.layers:
            raise UnfitError(f"{step.layers_done} of {self.shape.layers} layers use transformers' interface")
        logits: Tensor = out.logits[0].float()
        return logits

    def _check_ids(self) -> list[int]:
        return [(7 * i + 3) % self.vocabulary for i in range(_CHECKED_TOKENS)]

    @torch.inference_mode()
    def _own_answer(self) -> Tensor:
        ids = torch.tensor([self._check_ids()], device=self.shape.device)
        logits: Tensor = self._network(input_ids=ids, use_cache=False).logits[0, -1].float()
        return logits

    def _checked_answer(self) -> Tensor:
        ids = self._check_ids()
        memory = self.shape.memory(len(ids))
        half, last = len(ids) // 2, len(ids) - 1
        try:
            self.step([], [Rows(memory, 0, ids[:half])], ends=[])
            self.step([], [Rows(memory, half, ids[half:last])], ends=[])
            return self.step([Rows(memory, last, ids[last:])], [], ends=[0])[0]
        except UnfitError:
            raise
        except Exception as error:
            kind = type(self._network).__name__
            raise UnfitError(f"{kind} does not run step by step: {type(error).__name__}: {error}") from error


def _use_ragged_attention(network: Any) -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ragged_attention.NAME, ragged_attention.attention)
    network.set_attn_implementation(ragged_attention.NAME)
