"""What every model that turns text into vectors takes and gives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.task import Prepared, Raw
from services.nlp.tasks.classify import TextSorter


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of one text."""

    vector: NDArray[np.float32]  # [dimension], of length 1
    token_count: int  # tokens read, start and end marks included
    truncated: bool  # the text was longer than the model reads


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroShot:
    """How a model's vectors sort a text into labels: softmax(cosine(text, phrase of label) / temperature)."""

    phrase: str = "{label}"  # what stands for a label, `{label}` being the caller's
    temperature: float = 0.05  # greater than 0; smaller makes scores more extreme

    def __post_init__(self) -> None:
        if "{label}" not in self.phrase or not self.temperature > 0:
            raise ValueError("phrase should hold {label}, and temperature be greater than 0")

    def phrases(self, labels: list[str]) -> list[str]:
        """What to embed for the labels."""
        return [self.phrase.replace("{label}", label) for label in labels]

    def scores(self, text: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities that add up to 1: [n], of a vector [d] and the phrases' vectors [n, d]."""
        cosines = labels.astype(np.float64) @ text
        powers = np.exp((cosines - cosines.max()) / self.temperature)
        scores: NDArray[np.float32] = (powers / powers.sum()).astype(np.float32)
        return scores


class TextEmbedder(TextSorter[str, Prepared, Raw, Embedded]):
    """Turns a text into a unit vector that stands for its meaning."""

    @property
    @abstractmethod
    def zero_shot(self) -> ZeroShot:
        """How this model's vectors sort texts into labels."""
