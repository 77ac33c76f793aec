from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from services.nlp.generation.spelling import Spelling
from tests.unit.services.nlp.tiny_causal_lms import tokenizer


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Any:
    return tokenizer()


@pytest.fixture(scope="module")
def words_tokenizer() -> Any:
    """As Llama spells: a mark for the space before a word, bytes for what is in no word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁cat", "s", "▁", "▁a", "t"]
    inner = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0, byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return inner


def spell(decode: Any, ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    spelling = Spelling(lambda part: decode(part, skip_special_tokens=True), stop)
    return [*(spelling.add(token) for token in ids), spelling.end()]


TEXTS = [
    "the cat in the 2",
    "déjà vu 日本語 👩‍👩‍👧 the end",
    "👍🏽" * 20,
    " leading and trailing ",
    "the cats\n\n  the\tcat" * 8,
    "\ufffd broken by itself",
]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_make_the_text_and_none_ends_within_a_character(
    text: str, bytes_tokenizer: Any, words_tokenizer: Any
) -> None:
    ids = bytes_tokenizer.backend_tokenizer.encode(text).ids
    pieces = spell(bytes_tokenizer.decode, ids)
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text

    encoded = words_tokenizer.encode(text).ids
    expected = words_tokenizer.decode(encoded)
    pieces = spell(words_tokenizer.decode, encoded)
    assert "".join(pieces) == expected
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_bytes_that_are_no_text_are_spelled_as_such_without_end(bytes_tokenizer: Any) -> None:
    ids = random.Random(5).choices(range(256), k=400)
    pieces = spell(bytes_tokenizer.decode, ids)
    assert "".join(pieces) == bytes_tokenizer.decode(ids)
    longest_wait = max(len(run) for run in "".join("x" if piece else "." for piece in pieces).split("x"))
    assert longest_wait <= 4


@pytest.mark.parametrize("text", ["日本語" * 60, "👍🏽" * 60, "the cat " * 60])
def test_a_long_text_is_not_decoded_whole_at_each_token(
    text: str, bytes_tokenizer: Any, words_tokenizer: Any
) -> None:
    for spoken in (bytes_tokenizer.backend_tokenizer, words_tokenizer):
        longest = 0

        def decode(ids: list[int], *, skip_special_tokens: bool, spoken: Any = spoken) -> str:
            nonlocal longest
            longest = max(longest, len(ids))
            return str(spoken.decode(ids, skip_special_tokens=skip_special_tokens))

        ids = spoken.encode(text).ids
        assert "".join(spell(decode, ids)).strip() == text.strip()
        assert longest < 32 < len(ids)


def test_special_tokens_are_not_spelled(bytes_tokenizer: Any) -> None:
    ids = bytes_tokenizer.backend_tokenizer.encode("a<|280|>b").ids
    assert len(ids) == 3
    assert "".join(spell(bytes_tokenizer.decode, ids)) == "ab"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["cat"], "the "),
        (["cats", "at i"], "the c"),
        (["2"], "the cat in the "),
        (["t", "the"], ""),
        (["nowhere"], "the cat in the 2"),
        (["2 and more"], "the cat in the 2"),
    ],
)
def test_a_stop_text_ends_the_text_and_no_part_of_it_is_said(
    stop: list[str], expected: str, bytes_tokenizer: Any
) -> None:
    ids = bytes_tokenizer.backend_tokenizer.encode("the cat in the 2").ids
    said = ""
    for piece in spell(bytes_tokenizer.decode, ids, stop):
        said += piece
        assert expected.startswith(said)
    assert said == expected
