"""Tokens of a byte-level tokenizer, gathered to words.

A word begins with the token that brings a space, or, in scripts that write none, with each character;
punctuation without a space belongs to the word before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\ufffd"  # what the decoder makes of half a character
_UNSPACED = re.compile(  # Thai, Lao, Myanmar, Khmer, kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f]"
)


def grouped(tokenizer: Any, tokens: Sequence[int]) -> list[tuple[str, int, int]]:
    """The words and the tokens [from, to) that make each of them.

    Args:
        tokenizer: a transformers tokenizer.
        tokens: text only, no special ones.
    """
    words: list[tuple[str, int, int]] = []
    first = 0
    for index in range(len(tokens)):
        piece = tokenizer.decode(tokens[first : index + 1], clean_up_tokenization_spaces=False)
        if piece.endswith(_UNFINISHED) and index + 1 < len(tokens):
            continue
        if words and (not words[-1][0].strip() or not _begins(piece)):
            text, start, _ = words[-1]
            words[-1] = (text + piece, start, index + 1)
        else:
            words.append((piece, first, index + 1))
        first = index + 1
    return [(text.strip(), start, end) for text, start, end in words if text.strip()]


def _begins(piece: str) -> bool:
    """Whether a piece of text is the beginning of a word."""
    if piece[:1].isspace():
        return True
    marks = all(unicodedata.category(char).startswith(("P", "S")) for char in piece)
    return not marks and _UNSPACED.match(piece) is not None
