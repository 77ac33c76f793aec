"""M2M100 and NLLB: any of many languages into any other.

The source language is the first token of what the network reads, the target the first of what it writes,
so that texts of any pair of languages share a batch. A caller who does not name the source has it detected,
among the languages that both the detector and the model know.
"""

from __future__ import annotations

from typing import Any, Self

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained, load_processor
from services.translation.codes import Codes
from services.translation.networks.writer import Source
from services.translation.tasks.langid import identifier
from services.translation.tasks.pretrained import PretrainedTranslator
from services.translation.tasks.translate import Passage


class Multilingual(PretrainedTranslator):
    """An M2M100ForConditionalGeneration and its tokenizer, of M2M100 or NLLB.

    Args:
        tokens: the token of each language, by the model's code.
    """

    def __init__(self, model: Any, tokenizer: Any, tokens: dict[str, int]) -> None:
        self._codes = Codes(tokens)
        self._tokens = {tag: tokens[code] for tag, code in self._codes.by_tag.items()}
        super().__init__(model, tokenizer, list(self._tokens), list(self._tokens))
        self._end = int(tokenizer.eos_token_id)
        self._source_last = bool(getattr(tokenizer, "legacy_behaviour", False))
        self._detector = identifier([label for label in identifier().labels if self._codes.knows(str(label))])

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device` and the tokens."""
        model: Any = load_pretrained("AutoModelForSeq2SeqLM", directory, device)
        if model.config.model_type != "m2m_100":
            raise CardError(f"{directory.source}: is no M2M100 or NLLB but {model.config.model_type!r}")
        tokenizer = load_processor("AutoTokenizer", directory)
        tokens = _language_tokens(tokenizer, int(model.config.vocab_size))
        if len(Codes(tokens).by_tag) < 2:
            raise CardError(f"{directory.source}: its tokenizer has no tokens of languages")
        return cls(model, tokenizer, tokens)

    def find(self, request: Passage) -> tuple[str, str, float]:
        """The source is detected where the caller names none."""
        target = self._codes.tag("target_language", request.target)
        if request.source:
            return self._codes.tag("source_language", request.source), target, 1.0
        label, sure = self._detector.classify(request.text)
        return self._codes.tag("source_language", str(label)), target, float(sure)

    def encode(self, text: str, source: str, target: str) -> Source:
        """The text between its language and the end."""
        # The tokenizer's own way to set a language changes it for every thread.
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        language = self._tokens[source]
        tokens = (*ids, self._end, language) if self._source_last else (language, *ids, self._end)
        return Source(tokens, self._tokens[target])


def _language_tokens(tokenizer: Any, vocabulary: int) -> dict[str, int]:
    """The token of each language, by the tokenizer's code for it."""
    by_code = getattr(tokenizer, "lang_code_to_id", None)  # M2M100
    if by_code is None:  # NLLB: fra_Latn
        names = [str(token) for token in tokenizer.all_special_tokens if "_" in str(token)]
        by_code = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
    return {str(code): int(token) for code, token in by_code.items() if token < vocabulary}
