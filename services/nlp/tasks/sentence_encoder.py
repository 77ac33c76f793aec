"""Sentence embeddings in the layout of sentence-transformers: BERT, mean over tokens, length 1.

Files of a model directory: `config.json`, `model.safetensors`, `tokenizer.json`; optional
`sentence_bert_config.json` (`max_seq_length`), and beside the card `zero_shot.json`
(`{"phrase": "... {label} ...", "temperature": 0.05}`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch.nn import functional

from meshwork.serving.card import CardError, ModelDirectory
from services.nlp.networks.bert import Bert, BertConfig, load_bert, pack
from services.nlp.tasks.embed import Embedded, TextEmbedder, ZeroShot


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the network reads it."""

    ids: NDArray[np.int64]  # [tokens]
    truncated: bool


class SentenceEncoder(TextEmbedder[Tokens, NDArray[np.float32]]):
    """Embeds texts; the unit of cost is the token."""

    def __init__(self, network: Bert, tokenizer: Tokenizer, zero_shot: ZeroShot, device: str) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._zero_shot = zero_shot
        self._device = device

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        try:
            config = BertConfig.read(directory.file("config.json"))
            network = load_bert(config, directory.file("model.safetensors"), device)
            longest = _longest(directory, config.max_position_embeddings)
            zero_shot = _zero_shot(directory.path / "zero_shot.json")
        except (ValueError, TypeError, SafetensorError) as error:
            raise CardError(f"{directory.source}: {error}") from error
        tokenizer = _tokenizer(directory.file("tokenizer.json"), longest)
        return cls(network, tokenizer, zero_shot, device)

    @property
    def zero_shot(self) -> ZeroShot:
        """How this model's vectors sort texts into labels."""
        return self._zero_shot

    def warm_up(self) -> None:
        """Embeds one text, and several of different lengths."""
        texts = [
            "A mesh answers.",
            "It answers again.",
            "And a longer sentence makes a group of two lengths.",
        ]
        tokens = [self.preprocess(text) for text in texts]
        self.forward(tokens[:1])
        self.forward(tokens)

    def preprocess(self, request: str) -> Tokens:
        """Splits the text into tokens, and leaves out what is beyond the model's length."""
        encoding = self._tokenizer.encode(request)
        return Tokens(np.array(encoding.ids, np.int64), bool(encoding.overflowing))

    def cost(self, prepared: Tokens) -> float:
        """The text's tokens."""
        return float(len(prepared.ids))

    @torch.inference_mode()
    def forward(self, batch: Sequence[Tokens]) -> Sequence[NDArray[np.float32]]:
        """A unit vector for each text: float32 [hidden] each."""
        packing = pack([tokens.ids for tokens in batch], self._device)
        hidden = self._network(packing)  # [tokens, hidden]
        means = torch.segment_reduce(hidden, "mean", lengths=packing.lengths)  # [texts, hidden]
        units = torch.empty_like(means)
        units[packing.order] = functional.normalize(means)
        vectors: NDArray[np.float32] = units.cpu().numpy()
        return list(vectors)

    def postprocess(self, prepared: Tokens, raw: NDArray[np.float32]) -> Embedded:
        """The vector, and what was read for it."""
        return Embedded(raw, len(prepared.ids), prepared.truncated)


def _longest(directory: ModelDirectory, positions: int) -> int:
    """The most tokens that the model is meant to read."""
    try:
        file = directory.file("sentence_bert_config.json")
    except CardError:
        return positions
    return min(
        positions, int(json.loads(file.read_text(encoding="utf-8")).get("max_seq_length") or positions)
    )


def _zero_shot(file: Path) -> ZeroShot:
    return ZeroShot(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ZeroShot()


def _tokenizer(file: Path, longest: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise CardError(f"{file}: is no tokenizer: {error}") from error
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer
