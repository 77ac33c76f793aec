"""Cuts a text that is too long to be said in one breath."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SENTENCE = re.compile(
    r".*?(?:[.!?;:\u3002\uff01\uff1f\u2026]+(?=\s|$)|[\u3002\uff01\uff1f]|\n+|$)\s*", re.DOTALL
)


def pieces(text: str, longest: int) -> Iterator[str]:
    """The text in parts of at most `longest` characters, cut behind sentences, else words, else anywhere."""
    if len(text) <= longest:
        yield text
        return
    held = ""
    for sentence in _SENTENCE.findall(text):
        for part in _fitting(sentence, longest):
            if held and len(held) + len(part) > longest:
                yield held
                held = ""
            held += part
    if held:
        yield held


def _fitting(sentence: str, longest: int) -> Iterator[str]:
    while len(sentence) > longest:
        space = sentence.rfind(" ", 0, longest) + 1
        cut = space or longest
        yield sentence[:cut]
        sentence = sentence[cut:]
    yield sentence
