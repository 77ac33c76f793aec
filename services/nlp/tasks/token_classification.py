"""Named entities by Hugging Face's `...ForTokenClassification`.

Files of a model directory: `config.json` (`id2label`: the tags), the weights, the tokenizer.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from meshwork.serving.card import ModelDirectory
from services.nlp.networks.network import load_network
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tasks.entities import EntityTagger
from services.nlp.tasks.reader import OnNetwork, config_of, labels_of, longest_text
from services.nlp.tokens import TextTokenizer, Window, load_tokenizer

_OVERLAP = 64  # tokens that neighbouring windows share, if they are at least four times as long


class TokenClassification(OnNetwork, EntityTagger[Window, Floats]):
    """A network with a head of tags."""

    methods: ClassVar[tuple[str, ...]] = ("ExtractEntities",)
    light: ClassVar[bool] = True

    def __init__(self, network: TextNetwork, tokenizer: TextTokenizer, tags: tuple[str, ...]) -> None:
        super().__init__(network, tokenizer, Reading.TAGS)
        self._tags = tags

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        network = load_network(directory, device, Reading.TAGS)
        longest = longest_text(directory, network)
        tokenizer = TextTokenizer(load_tokenizer(directory), longest, overlap=min(_OVERLAP, longest // 4))
        return cls(network, tokenizer, labels_of(config_of(directory), directory))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that its head gives scores."""
        return self._tags

    def windows(self, text: str) -> list[Window]:
        """The text as windows of the model's length."""
        return self._tokenizer.windows(text)

    def preprocess(self, request: Window) -> Window:
        """The window: it was made ready with its text."""
        return request

    def postprocess(self, prepared: Window, raw: Floats) -> Floats:
        """The probabilities of the tags: [tokens, tags]."""
        powers = np.exp(raw - raw.max(1, keepdims=True))
        shares: Floats = powers / powers.sum(1, keepdims=True)
        return shares
