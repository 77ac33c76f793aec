"""What a sentence is before and after the network: normal form, sentences, words."""

from __future__ import annotations

import re
import unicodedata

_CONTRACTIONS = (
    (re.compile(r"\b(can)'?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'d like\b"), " would like"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"\b(what|where|when|how|it|that|there|here|who)'s\b"), r"\1 is"),
    (re.compile(r"\blet's\b"), "let us"),
)
_APOSTROPHES = re.compile("[\u2019\u2018\u02bc\u00b4`\u2032]")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_HAN_SPACES = re.compile(rf"(?<=[{_HAN}]) +| +(?=[{_HAN}])")
# A full stop after a digit is an ordinal's (`5. März`), and one between digits a decimal's.
_SENTENCE_END = re.compile(r"(?<=[!?\u3002\uff01\uff1f\u2026])\s*|(?<=[^\d\s][.])\s+(?=\S)|\n+")
_WORDS = re.compile(rf"[{_HAN}]|\d+|[^\W\d_]+|[^\w\s]", re.UNICODE)


def normalise(text: str, language: str) -> str:
    """A sentence as the network reads it: lower case, no punctuation but within numbers and words."""
    text = _APOSTROPHES.sub("'", unicodedata.normalize("NFKC", text)).lower()
    if language == "en":
        for pattern, full in _CONTRACTIONS:
            text = pattern.sub(full, text)
        text = re.sub(r"\b([ap])\.m\.", r"\1m", text)
    kept = []
    for index, char in enumerate(text):
        category = unicodedata.category(char)
        if category[0] == "P":
            inner = 0 < index < len(text) - 1
            number = inner and char in ".,:" and text[index - 1].isdigit() and text[index + 1].isdigit()
            word = inner and char in "'-" and text[index - 1].isalnum() and text[index + 1].isalnum()
            kept.append(char if number or word else " ")
        else:
            kept.append(" " if category[0] in "CZ" else char)
    return _HAN_SPACES.sub("", " ".join("".join(kept).split()))


def sentences(text: str) -> list[str]:
    """The sentences of a text that say something, in order."""
    return [part for part in _SENTENCE_END.split(text) if any(char.isalnum() for char in part)]


def words(normal: str) -> list[str]:
    """Words of a normalised sentence: Chinese by character, each number as `0`, accents folded."""
    folded = "".join(c for c in unicodedata.normalize("NFD", normal) if not unicodedata.combining(c))
    return ["0" if word[0].isdigit() else word for word in _WORDS.findall(folded)]


def numbers(text: str) -> list[str]:
    """Runs of digits, sorted: what a translation must not change."""
    return sorted(re.findall(r"[0-9]+", text))
