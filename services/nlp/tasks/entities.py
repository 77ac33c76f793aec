"""What every model that finds names in a text takes and gives, and how its tags become entities.

A model tags each token: `B-PER` begins a person, `I-PER` goes on, `O` is nothing. Neighbours of one
kind make an entity, whose score is the mean of its tokens'; `B-`, `S-` and `U-` begin a new one. Long
texts are read in overlapping windows, and each token's tag is taken from the window in which it has
more text on both sides.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.task import Prepared, Raw, Task
from services.nlp.tokens import Window

Tagged = NDArray[np.float32]  # [tokens, tags]: probabilities
NOTHING = "O"
_BEGIN, _CONTINUE = ("B", "S", "U"), ("I", "E", "L", "M")


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that a text names."""

    kind: str  # in the model's words, for example "PER"
    score: float  # mean probability of its tokens' tags
    start: int  # code points
    end: int


class EntityTagger(Task[Window, Prepared, Raw, Tagged]):
    """Gives each token of a window the probabilities of the tags."""

    @property
    @abstractmethod
    def tags(self) -> tuple[str, ...]:
        """The tags, in the order of the probabilities."""

    @abstractmethod
    def windows(self, text: str) -> list[Window]:
        """The text as windows that the model can read, in order."""


def entities(
    text: str, windows: Sequence[Window], tagged: Sequence[Tagged], tags: Sequence[str]
) -> list[Entity]:
    """The entities of a text, in order, without white space around them."""
    spans, chosen = _stitched(windows, tagged)
    best = chosen.argmax(1)
    found: list[tuple[str, list[float], int, int]] = []
    last = NOTHING
    for (start, end), tag, scores in zip(spans.tolist(), best.tolist(), chosen, strict=True):
        begins, kind = _parsed(tags[tag])
        if kind != NOTHING:
            score = float(scores[tag])
            if begins or kind != last:
                found.append((kind, [score], start, end))
            else:
                _, before, first, _ = found[-1]
                found[-1] = (kind, [*before, score], first, end)
        last = kind
    return [
        Entity(kind, float(np.mean(scores)), *_trimmed(text, start, end))
        for kind, scores, start, end in found
        if text[start:end].strip()
    ]


def _stitched(windows: Sequence[Window], tagged: Sequence[Tagged]) -> tuple[NDArray[np.int64], Tagged]:
    """Spans and probabilities of the text's tokens, each once: [tokens, 2], [tokens, tags]."""
    spans, chosen = [], []
    begin = 0  # the text's token from which the window is asked
    for index, (window, scores) in enumerate(zip(windows, tagged, strict=True)):
        count = int(window.readable.sum())
        end = window.first + count
        if index + 1 < len(windows):
            end -= (end - windows[index + 1].first) // 2
        part = slice(begin - window.first, end - window.first)
        spans.append(window.spans[window.readable][part])
        chosen.append(scores[window.readable][part])
        begin = end
    return np.concatenate(spans), np.concatenate(chosen)


def _parsed(tag: str) -> tuple[bool, str]:
    """Whether a tag begins an entity, and of what kind."""
    prefix, dash, kind = tag.partition("-")
    if dash and prefix in _BEGIN + _CONTINUE:
        return prefix in _BEGIN, kind
    return False, tag


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
