"""Writes with any encoder-decoder network of transformers: many sources, each as if it were alone.

The sources are read once; `generate` writes as the model's generation config says (beams, lengths, words
that it must not use), each row into a language of its own; a second pass tells how sure the network was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from meshwork.serving.token_scores import token_log_probabilities

MOST_ROWS = 32  # in one pass of the network


@dataclass(frozen=True, slots=True)
class Source:
    """What to read, and how to begin."""

    tokens: tuple[int, ...]
    first: int | None = None  # the token to begin with, for networks of many languages


@dataclass(frozen=True, slots=True)
class Written:
    """What the network wrote."""

    tokens: tuple[int, ...]  # without the beginning and the end
    log_probabilities: tuple[float, ...]  # of each token that it chose, the end included
    complete: bool  # it came to an end by itself


class Writer:
    """A network on its device.

    Args:
        model: of AutoModelForSeq2SeqLM.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._config = copy.deepcopy(model.generation_config)
        ends = self._config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    @property
    def longest(self) -> int:
        """Tokens that it reads, and writes, at most."""
        positions = getattr(self._model.config, "max_position_embeddings", None) or 1024
        return int(min(positions, self._config.max_length or positions))

    def write(self, sources: Sequence[Source]) -> list[Written]:
        """What it makes of each source; either all have a `first` token or none.

        Neighbours in length share a pass, so that little of it is padding.
        """
        written: list[Written | None] = [None] * len(sources)
        order = sorted(range(len(sources)), key=lambda row: len(sources[row].tokens))
        for start in range(0, len(order), MOST_ROWS):
            rows = order[start : start + MOST_ROWS]
            for row, each in zip(rows, self._pass([sources[row] for row in rows]), strict=True):
                written[row] = each
        return [each for each in written if each is not None]

    @torch.inference_mode()
    def _pass(self, sources: Sequence[Source]) -> list[Written]:
        longest = max(len(source.tokens) for source in sources)
        pad = int(self._model.config.pad_token_id or 0)
        ids = [[*source.tokens, *[pad] * (longest - len(source.tokens))] for source in sources]
        mask = [[1] * len(source.tokens) + [0] * (longest - len(source.tokens)) for source in sources]
        attention_mask = torch.tensor(mask, device=self._model.device)  # [n, n_source]
        encoder = self._model.get_encoder()
        encoded: Tensor = encoder(
            input_ids=torch.tensor(ids, device=self._model.device), attention_mask=attention_mask
        ).last_hidden_state  # [n, n_source, width]
        config = copy.copy(self._config)
        processors = LogitsProcessorList()
        firsts = [source.first for source in sources if source.first is not None]
        if firsts:
            config.forced_bos_token_id = None
            processors.append(FirstToken(torch.tensor(firsts, device=encoded.device)))
        sequences: Tensor = self._model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=attention_mask,
            generation_config=config,
            logits_processor=processors,
        )  # [n, n_tokens], the start token first
        scores = token_log_probabilities(self._model, sequences, encoded, attention_mask)
        given = 1 + bool(firsts)
        return [
            self._written(row[given:], chosen[given - 1 :])
            for row, chosen in zip(sequences.tolist(), scores.tolist(), strict=True)
        ]

    def _written(self, tokens: Sequence[int], log_probabilities: Sequence[float]) -> Written:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), len(tokens))
        return Written(tuple(tokens[:end]), tuple(log_probabilities[: end + 1]), end < len(tokens))


class FirstToken(LogitsProcessor):
    """Makes each row begin with a token of its own, as `forced_bos_token_id` does for all rows alike.

    Args:
        tokens: [n]; rows of scores are n, or n times the number of beams.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores, or at the first step those that leave one choice."""
        if input_ids.shape[1] != 1:
            return scores
        tokens = self._tokens.repeat_interleave(len(scores) // len(self._tokens))
        only = torch.full_like(scores, -math.inf)
        return only.scatter(1, tokens[:, None], 0.0)
