"""Sentence embeddings in the layout of sentence-transformers (Reimers and Gurevych, 2019).

Files of a model directory: `config.json`, the weights, the tokenizer; optional
`sentence_bert_config.json` (`max_seq_length`), `modules.json` with the pooling's `config.json`, and
beside the card `zero_shot.json` (`{"phrase": "... {label} ...", "temperature": 0.05}`). Without
`modules.json` the card's parameter `pooling` says what stands for a text: `mean` (default) of its
tokens, `cls` or `max`. Vectors are of length 1 whether the directory asks for it or not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from meshwork.serving.card import CardError, ModelDirectory
from services.nlp.networks.network import load_network
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tasks.embed import Embedded, TextEmbedder, ZeroShot
from services.nlp.tasks.reader import OnNetwork, config_of, longest_text
from services.nlp.tokens import TextTokenizer, Tokens, load_tokenizer

_POOLINGS = {"mean": Reading.MEAN, "cls": Reading.CLS, "max": Reading.MAX}
_MODES = {  # of 1_Pooling/config.json; the square root goes with the length
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_MODULES = ("Transformer", "Pooling", "Normalize")


class SentenceEncoder(OnNetwork, TextEmbedder[Tokens, Floats]):
    """Embeds texts."""

    methods: ClassVar[tuple[str, ...]] = ("Embed", "ClassifyText", "MatchTexts")
    light_answers = True

    def __init__(
        self, network: TextNetwork, tokenizer: TextTokenizer, reading: Reading, zero_shot: ZeroShot
    ) -> None:
        super().__init__(network, tokenizer, reading)
        self._zero_shot = zero_shot

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        reading = _POOLINGS[_pooling(directory)]
        network = load_network(directory, device, reading)
        bound = config_of(directory, "sentence_bert_config.json").get("max_seq_length")
        longest = longest_text(directory, network)
        tokenizer = TextTokenizer(load_tokenizer(directory), min(longest, bound or longest))
        return cls(network, tokenizer, reading, _zero_shot(directory.path / "zero_shot.json"))

    @property
    def zero_shot(self) -> ZeroShot:
        """How this model's vectors sort texts into labels."""
        return self._zero_shot

    def preprocess(self, request: str) -> Tokens:
        """Splits the text into tokens, and leaves out what is beyond the model's length."""
        return self._tokenizer.text(request)

    def postprocess(self, prepared: Tokens, raw: Floats) -> Embedded:
        """The vector at length 1, and what was read for it."""
        vector = raw / max(float(np.linalg.norm(raw)), 1e-12)
        return Embedded(vector.astype(np.float32), len(prepared.ids), prepared.truncated)


def _pooling(directory: ModelDirectory) -> str:
    """Which of `_POOLINGS` the directory asks for."""
    modules = _modules(directory)
    others = [name for name, _ in modules if name not in _MODULES]
    if others:
        raise CardError(f"{directory.source}: modules.json: {others[0]} cannot be run; {_MODULES} can")
    folders = [folder for name, folder in modules if name == "Pooling"]
    if not folders:
        pooling = directory.card.parameters.get("pooling", "mean")
        if pooling not in _POOLINGS:
            raise CardError(
                f"{directory.source}: parameters: pooling should be one of {', '.join(_POOLINGS)}"
            )
        return str(pooling)
    config = config_of(directory, f"{folders[0]}/config.json")
    asked = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    named = config.get("pooling_mode")  # as newer releases write it
    known = [_MODES[name] for name in asked if name in _MODES] or [
        name for name in [named] if name in _POOLINGS
    ]
    if len(asked) > 1 or len(known) != 1:
        raise CardError(
            f"{directory.source}: {folders[0]}/config.json: cannot pool by {', '.join(asked) or named}; "
            f"one of {', '.join(_POOLINGS)} can be run"
        )
    return known[0]


def _modules(directory: ModelDirectory) -> list[tuple[str, str]]:
    """The names and folders of `modules.json`, none if it is not there."""
    if not directory.has("modules.json"):
        return []
    try:
        entries: Any = json.loads(directory.file("modules.json").read_text(encoding="utf-8"))
        return [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise CardError(f"{directory.source}: modules.json: is no list of modules: {error!r}") from error


def _zero_shot(file: Path) -> ZeroShot:
    try:
        return ZeroShot(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ZeroShot()
    except (ValueError, TypeError) as error:
        raise CardError(f"{file}: {error}") from error
