"""Texts as a network reads them: token ids, and where in the text each token stands.

The tokenizer is the `tokenizers` library's, from `tokenizer.json`; a directory with other files
(`vocab.txt`, SentencePiece) is converted by transformers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_processor

# A call of ours is one text: its threads are the replica's, and the library's own would only be in the way.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Of a text that is cut at the model's length, no more characters a token are split at all: so a request
# of many labels about one very long text costs little.
_CHARACTERS = 100
_UNBOUNDED = 1_000_000  # a `model_max_length` beyond it says that there is none


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text, or a pair of texts, as the network reads it."""

    ids: NDArray[np.int64]  # [tokens]
    kinds: NDArray[np.int64] | None  # [tokens]: of which of the pair each is; None if all are of one kind
    truncated: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text that the network reads at once."""

    tokens: Tokens
    spans: NDArray[np.int64]  # [tokens, 2]: code points from and to, in the text
    readable: NDArray[np.bool_]  # [tokens]: tokens of the text itself
    first: int  # which of the text's tokens is the first readable one


class TextTokenizer:
    """Splits texts into tokens.

    Args:
        longest: most tokens, start and end marks included.
        cut: which text of a pair gives way if both are too long.
        overlap: tokens that neighbouring windows share.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        longest: int,
        *,
        cut: Literal["only_first", "only_second"] = "only_first",
        overlap: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._overlap = overlap
        tokenizer.enable_truncation(longest, stride=overlap, strategy=cut)
        tokenizer.no_padding()
        self.longest = longest
        self._characters = longest * _CHARACTERS

    def text(self, text: str) -> Tokens:
        """One text, cut at the model's length.

        Raises:
            InvalidArgument: nothing of it is a token.
        """
        head = text[: self._characters]
        (encoding,) = self._tokenizer.encode_batch_fast([head])
        return _tokens(encoding, cut=len(head) < len(text))

    def pair(self, first: str, second: str, field: str) -> Tokens:
        """Two texts, the first of them cut.

        Raises:
            InvalidArgument: `field`, the second, leaves no room for the first.
        """
        head = first[: self._characters]
        return _tokens(self._encoded(head, second, field), cut=len(head) < len(first))

    def windows(self, text: str) -> list[Window]:
        """The text in windows, in order; every token is in one at least."""
        return self._windows(self._tokenizer.encode(text), 0)

    def windows_behind(self, before: str, text: str, field: str) -> list[Window]:
        """`text` in windows, each behind the whole of `before`.

        Raises:
            InvalidArgument: `field`, which is `before`, leaves too little room.
        """
        marks = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        try:
            taken = len(self._tokenizer.encode(before, add_special_tokens=False).ids)
        except Exception:  # the library's way to say that it is too long by itself
            taken = self.longest
        room = self.longest - marks - 2 * self._overlap
        if taken > room:
            raise InvalidArgument(f"has more than the {room} tokens that the model has room for", field=field)
        return self._windows(self._encoded(before, text, field), 1)

    def _encoded(self, first: str, second: str, field: str) -> Encoding:
        try:
            return self._tokenizer.encode(first, second)
        except Exception as error:  # the library raises bare Exception if nothing is left to cut
            raise InvalidArgument(
                f"is too long: a model that reads {self.longest} tokens has no room beside it", field=field
            ) from error

    def _windows(self, encoding: Encoding, part: int) -> list[Window]:
        windows, first = [], 0
        for each in (encoding, *encoding.overflowing):
            readable = np.array([sequence == part for sequence in each.sequence_ids])
            spans = np.array(each.offsets, np.int64).reshape(-1, 2)
            windows.append(Window(_tokens(each), spans, readable, first))
            first += int(readable.sum()) - self._overlap
        return windows


def _tokens(encoding: Encoding, *, cut: bool = False) -> Tokens:
    if not encoding.ids:
        raise InvalidArgument("has nothing that the model could read")
    kinds = np.array(encoding.type_ids, np.int64)
    return Tokens(
        np.array(encoding.ids, np.int64), kinds if kinds.any() else None, cut or bool(encoding.overflowing)
    )


def load_tokenizer(directory: ModelDirectory) -> Tokenizer:
    """The tokenizer of a directory.

    Raises:
        CardError: there is none, or its files do not fit.
    """
    if not directory.has("tokenizer.json"):
        fast = getattr(load_processor("AutoTokenizer", directory), "backend_tokenizer", None)
        if not isinstance(fast, Tokenizer):
            raise CardError(f"{directory.source}: has no tokenizer.json, nor files that make one")
        return fast
    file = directory.file("tokenizer.json")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise CardError(f"{file}: is no tokenizer: {error}") from error


def stated_longest(tokenizer_config: Mapping[str, Any]) -> int | None:
    """The most tokens that a `tokenizer_config.json` allows, None if it does not say."""
    longest = tokenizer_config.get("model_max_length")
    return int(longest) if isinstance(longest, int | float) and 0 < longest < _UNBOUNDED else None
