"""Byte-level BPE with digits apart: any text in, and nothing is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as _Tokenizer

SPECIAL = ("<pad>", "<end>")


class Tokenizer:
    """Text to token ids and back; `decode(encode(text))` is `text`."""

    def __init__(self, inner: _Tokenizer) -> None:
        self._inner = inner

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads tokenizer.json.

        Raises:
            ValueError: it is no such file.
        """
        try:
            return cls(_Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path}: is not a tokenizer: {error}") from error

    @classmethod
    def train(cls, texts: Iterable[str], size: int, languages: Sequence[str]) -> Tokenizer:
        """Learns at most `size` tokens; the first are pad, end and the languages' tags."""
        inner = _Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.Split(Regex(r"\p{Han}"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=[*SPECIAL, *(f"<{language}>" for language in languages)],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator((" " + text for text in texts), trainer)
        return cls(inner)

    def save(self, path: Path) -> None:
        """Writes tokenizer.json."""
        self._inner.save(str(path))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        # The space makes a first word the same token as one within a sentence.
        return list(self._inner.encode(" " + text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; what is not UTF-8 becomes U+FFFD."""
        return self._inner.decode(list(tokens), skip_special_tokens=True).removeprefix(" ")
