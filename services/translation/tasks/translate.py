"""What every model that translates takes and gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from meshwork.serving.task import Prepared, Raw, Task


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to translate."""

    text: str  # not empty
    target: str  # BCP-47, as the caller wrote it
    source: str = ""  # the same; "" to detect it
    field: str = "text"  # of the request that holds the text, for errors


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of a passage."""

    text: str
    source: str  # the model's code of the language that it was taken to be in
    confidence: float  # 0 to 1: how far it can be trusted


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language of a model."""

    name: str  # in English
    targets: tuple[str, ...]  # codes of the languages that it can be translated into, sorted


class Translator(Task[Passage, Prepared, Raw, Translated]):
    """Carries texts from one language into another."""

    @property
    @abstractmethod
    def languages(self) -> Mapping[str, Tongue]:
        """The languages that the model reads, by code."""

    def observed(self, out: Translated) -> tuple[float, str] | None:
        """How far the translation can be trusted, and the language that it was taken to be in."""
        return out.confidence, out.source
