"""How far a translation can be trusted: one logistic over what the network and the words tell.

    confidence = 1 / (1 + exp(-(w . x)))

x holds the network's log probability of its least certain token, the share of the sentence's neighbouring
words that is new to the model, whether a number was lost or made up, and 1. w is fitted when the model is
made, on sentences of the patterns against broken and foreign ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from services.translation.text import numbers

FEATURES = ("least certain token", "new pairs", "numbers differ", "bias")
_LEAST_LOG_PROBABILITY = -8.0


def features(
    source: str,
    text: str,
    languages: tuple[str, str],
    log_probabilities: Sequence[float],
    familiarity: float,
) -> tuple[float, ...]:
    """x of this module's docstring, in the order of FEATURES.

    Args:
        source: the normalised sentence.
        text: its translation.
        languages: source's and translation's.
        log_probabilities: of each token written, at least one.
        familiarity: of the source, from 0 to 1.
    """
    return (
        max(min(log_probabilities), _LEAST_LOG_PROBABILITY),
        1 - familiarity,
        float(not same_numbers(source, text, languages)),
        1.0,
    )


def confidence(weights: Sequence[float], x: Sequence[float]) -> float:
    """The confidence of x under w, from 0 to 1."""
    score = math.fsum(weight * value for weight, value in zip(weights, x, strict=True))
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, score))))


def same_numbers(source: str, text: str, languages: tuple[str, str]) -> bool:
    """Whether the digits are the same; Chinese writes months as numbers, so it may have more."""
    left, right = Counter(numbers(source)), Counter(numbers(text))
    if languages[0] == "zh":
        return not right - left
    if languages[1] == "zh":
        return not left - right
    return left == right
