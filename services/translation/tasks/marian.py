"""Marian: one pair of languages, or one language into several (opus-mt).

Which languages is told by the card's `parameters`, else by the tokenizer's settings, else by a name such as
`opus-mt-en-fr`:

    source: en                # or a list: a model of several reads them all alike
    target: fr                # not used by a model that has >>fr<< and its like among its tokens
"""

from __future__ import annotations

import re
from typing import Any, Self

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained, load_processor
from services.translation.codes import Codes
from services.translation.networks.writer import Source
from services.translation.tasks.pretrained import PretrainedTranslator
from services.translation.tasks.translate import Passage

_NAMED = re.compile(r"([A-Za-z]{2,3}(?:_[A-Za-z]+)*)-([A-Za-z]{2,3}(?:_[A-Za-z]+)*|[A-Z]+)$")


class Marian(PretrainedTranslator):
    """A MarianMTModel and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, sources: list[str], targets: list[str]) -> None:
        self._sources, self._targets = Codes(sources), Codes(targets)
        super().__init__(model, tokenizer, list(self._sources.by_tag), list(self._targets.by_tag))
        self._marked = bool(tokenizer.supported_language_codes)

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device` and the tokens, and finds out the languages."""
        model: Any = load_pretrained("AutoModelForSeq2SeqLM", directory, device)
        if model.config.model_type != "marian":
            raise CardError(f"{directory.source}: is no Marian but {model.config.model_type!r}")
        tokenizer = load_processor("AutoTokenizer", directory)
        sources, targets = _languages(directory, tokenizer)
        for name, codes in (("source", sources), ("target", targets)):
            if not Codes(codes).by_tag:
                raise CardError(
                    f"{directory.source}: does not say which language is its {name}; say it with "
                    f"parameters: {name}: fr"
                )
        return cls(model, tokenizer, sources, targets)

    def find(self, request: Passage) -> tuple[str, str, float]:
        """The model's only source where the caller names none."""
        target = self._targets.tag("target_language", request.target)
        if request.source:
            return self._sources.tag("source_language", request.source), target, 1.0
        known = list(self._sources.by_tag)
        if len(known) > 1:
            raise InvalidArgument(
                f"should be given to this model, which reads {', '.join(known)}", field="source_language"
            )
        return known[0], target, 1.0

    def encode(self, text: str, source: str, target: str) -> Source:
        """The text behind its target's mark, if the model has marks."""
        mark = f">>{self._targets.by_tag[target]}<< " if self._marked else ""
        return Source(tuple(self._tokenizer(mark + text)["input_ids"]))


def _languages(directory: ModelDirectory, tokenizer: Any) -> tuple[list[str], list[str]]:
    """What the model reads and what it writes, in its own codes; empty where nothing tells."""
    told = directory.card.parameters
    found = _NAMED.search(directory.path.name) or _NAMED.search(directory.card.name)
    named = found.groups() if found else ("", "")
    marks = [token.strip("<>") for token in tokenizer.supported_language_codes]
    both = []
    for key, own, from_name in (
        ("source", tokenizer.source_lang, named[0]),
        ("target", tokenizer.target_lang, named[1]),
    ):
        if key == "target" and marks:
            both.append(marks)
            continue
        value = told.get(key) or own or from_name
        both.append([str(each) for each in value] if isinstance(value, list | tuple) else [str(value)])
    return both[0], both[1]
