"""What every model that answers questions from a text takes and gives, and how its scores become answers.

For each token of a window the model scores that the answer begins, or ends, there (SQuAD: Rajpurkar et
al., 2016). The score of a span is the product of both probabilities; that the window holds no answer is
what the first token's product says (SQuAD 2.0, 2018), and that none does, the least of the windows'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.task import Prepared, Raw, Task
from services.nlp.tokens import Window

Ends = NDArray[np.float32]  # [tokens, 2]: logits of beginning and of ending there
MOST_TOKENS = 30  # of an answer


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the context that answers the question."""

    score: float  # from 0 to 1
    start: int  # code points
    end: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What a context says to a question."""

    spans: list[Span]  # best first, none twice
    none_score: float  # that it holds no answer, from 0 to 1


class Answerer(Task[Window, Prepared, Raw, Ends]):
    """Scores where in a window an answer begins and ends."""

    @abstractmethod
    def windows(self, question: str, context: str) -> list[Window]:
        """The context as windows that the model can read, each behind the question.

        Raises:
            InvalidArgument: the question leaves no room for a context.
        """


def answers(windows: Sequence[Window], ends: Sequence[Ends], most: int) -> Answers:
    """The `most` best spans of all windows."""
    best: dict[tuple[int, int], float] = {}
    none_score = 1.0
    for window, logits in zip(windows, ends, strict=True):
        allowed = window.readable.copy()
        allowed[0] = True  # the token that says that there is no answer
        places = np.flatnonzero(allowed)
        begins, finishes = _softmax(logits[places, 0]), _softmax(logits[places, 1])
        none_score = min(none_score, float(begins[0] * finishes[0]))
        spans = window.spans[places]
        products = np.triu(np.outer(begins, finishes))
        products -= np.triu(products, MOST_TOKENS)
        products[0] = 0
        flat = np.argsort(-products, axis=None, kind="stable")[: most * 2]
        for begin, finish in zip(*np.unravel_index(flat, products.shape), strict=True):
            place = int(spans[begin, 0]), int(spans[finish, 1])
            if place[0] < place[1]:
                best[place] = max(best.get(place, 0.0), float(products[begin, finish]))
    ordered = sorted(best.items(), key=lambda each: (-each[1], each[0]))[:most]
    return Answers([Span(score, start, end) for (start, end), score in ordered if score > 0], none_score)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares
