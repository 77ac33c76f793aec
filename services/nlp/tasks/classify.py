"""What every model that sorts a text into classes takes and gives, and what its scores mean."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.task import In, Out, Prepared, Raw, Task

Scores = NDArray[np.float32]
HYPOTHESIS = "This example is {label}."


@dataclass(frozen=True, slots=True)
class Question:
    """A text, alone or beside a hypothesis about it."""

    text: str
    hypothesis: str = ""  # "" for none


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """A model's own classes, and how it sorts a text into a caller's."""

    labels: tuple[str, ...]
    independent: bool  # each has a probability of its own; otherwise one is true
    bounded: bool = True  # scores are probabilities; otherwise the numbers of a regression
    entailment: int | None = None  # the class of a hypothesis that follows from its text; None if it has none
    hypothesis: str = HYPOTHESIS  # about a caller's label

    def scores(self, logits: Scores) -> Scores:
        """The classes' scores: [classes] -> [classes]."""
        if not self.bounded:
            return logits
        if self.independent:
            return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
        return _softmax(logits)

    def hypotheses(self, labels: list[str]) -> list[str]:
        """What to ask about the text, a hypothesis a label."""
        return [self.hypothesis.replace("{label}", label) for label in labels]

    def entailed(self, logits: list[Scores]) -> Scores:
        """Probabilities of the labels, which add up to 1, from each one's [classes] (Yin et al., 2019)."""
        return _softmax(np.stack(logits)[:, self.entailment])


def _softmax(logits: Scores) -> Scores:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    scores: Scores = (powers / powers.sum()).astype(np.float32)
    return scores


class TextSorter(Task[In, Prepared, Raw, Out]):
    """Can answer ClassifyText: by classes of its own, or by likeness of meanings."""


class TextClassifier(TextSorter[Question, Prepared, Raw, Scores]):
    """Gives the logits of its classes for a text: [classes]."""

    @property
    @abstractmethod
    def classes(self) -> Classes:
        """The classes that it knows."""

    def observed(self, out: Scores) -> tuple[float, str] | None:
        """The likeliest class and its probability."""
        classes = self.classes
        if not classes.bounded or not len(out):
            return None
        scores = classes.scores(out)
        best = int(scores.argmax())
        return float(scores[best]), classes.labels[best]
