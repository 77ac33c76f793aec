"""The detector `langid`: py3langid, naive Bayes over byte n-grams (Lui and Baldwin, 2012)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Self

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from meshwork.serving.card import ModelDirectory
from services.translation.tasks.detect import LanguageDetector, Likely

_LONGEST = 20_000  # characters of a text are read: more change nothing


def identifier(languages: Collection[str] | None = None) -> LanguageIdentifier:
    """A reader that knows `languages`, or all of its own, and whose scores are probabilities."""
    made = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if languages is not None:
        made.set_languages(sorted(languages))
    return made


class Langid(LanguageDetector[str, list[Likely]]):
    """py3langid behind the task contract."""

    shares_device: ClassVar[bool] = False

    def __init__(self) -> None:
        self._identifier = identifier()

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the model that lies in the py3langid package, not in `directory`; it runs on the CPU."""
        return cls()

    def warm_up(self) -> None:
        """Detects one sentence."""
        self._identifier.classify("Where is the station?")

    def preprocess(self, request: str) -> str:
        """The part of the text that is read."""
        return request[:_LONGEST]

    def cost(self, prepared: str) -> float:
        """One for each thousand characters."""
        return 1.0 + len(prepared) / 1000

    def forward(self, batch: Sequence[str]) -> list[list[Likely]]:
        """Ranks the languages for each text."""
        return [[Likely(code, score) for code, score in self._identifier.rank(text)] for text in batch]

    def postprocess(self, prepared: str, raw: list[Likely]) -> list[Likely]:
        """The ranking as it is."""
        return raw
