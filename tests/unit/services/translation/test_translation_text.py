"""Sentences before and after the network, and the language tags of requests."""

from __future__ import annotations

import numpy as np
import pytest

from meshwork.errors import InvalidArgument
from services.translation import languages
from services.translation.confidence import same_numbers
from services.translation.familiarity import Familiarity
from services.translation.text import normalise, sentences, words

KNOWN = ("de", "en", "es", "fr", "zh")


@pytest.mark.parametrize(
    ("text", "language", "normal"),
    [
        ("Where is the station?", "en", "where is the station"),
        ("  WHERE   is\tthe station  ", "en", "where is the station"),
        ("I'd like a tea, please.", "en", "i would like a tea please"),
        ("It costs 12.50 euros!", "en", "it costs 12.50 euros"),
        ("Ça coûte 12,50 euros.", "fr", "ça coûte 12,50 euros"),
        ("J\u2019ai soif.", "fr", "j'ai soif"),
        ("¿Dónde está la estación?", "es", "dónde está la estación"),
        ("Heute ist der 5. März.", "de", "heute ist der 5 märz"),
        ("火 车 站 在哪里\uff1f", "zh", "火车站在哪里"),
        ("a\x00b\x1b", "en", "a b"),
        ("?!…", "en", ""),
    ],
)
def test_a_sentence_is_read_without_case_and_punctuation(text: str, language: str, normal: str) -> None:
    assert normalise(text, language) == normal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello! Where is the station? Thank you.", 3),
        ("Heute ist der 5. März.", 1),
        ("It costs 12.50 euros.", 1),
        ("您好\uff01火车站在哪里\uff1f谢谢。", 3),
        ("one line\nanother", 2),
        ("...", 0),
        ("", 0),
    ],
)
def test_a_text_falls_into_its_sentences(text: str, parts: int) -> None:
    assert len(sentences(text)) == parts


def test_numbers_and_accents_do_not_make_words_new() -> None:
    assert words("où est le quai 12") == words("ou est le quai 734")


def test_familiarity_is_the_share_of_what_training_saw() -> None:
    known = Familiarity.of([("en", "where is the station"), ("en", "where is the bank")])
    assert known.measure("en", "where is the bank") == 1
    assert known.measure("en", "where is the zebra") == pytest.approx(3 / 5)
    assert known.measure("en", "station the is where") == 0
    assert known.measure("fr", "where is the bank") == 0
    assert known.measure("en", "") == 0
    assert known.hashes.dtype == np.int64


@pytest.mark.parametrize(
    ("source", "text", "pair", "same"),
    [
        ("it costs 12.50 euros", "Ça coûte 12,50 euros.", ("en", "fr"), True),
        ("it costs 12.50 euros", "Ça coûte 12,60 euros.", ("en", "fr"), False),
        ("today is march 5", "今天是3月5日。", ("en", "zh"), True),
        ("今天是3月5日", "Today is March 5.", ("zh", "en"), True),
        ("今天是3月5日", "Today is March 7.", ("zh", "en"), False),
    ],
)
def test_numbers_must_survive(source: str, text: str, pair: tuple[str, str], same: bool) -> None:
    assert same_numbers(source, text, pair) is same


@pytest.mark.parametrize(
    ("tag", "code"),
    [("fr", "fr"), ("FR", "fr"), ("fr-FR", "fr"), ("zh-CN", "zh"), ("zh-Hans", "zh"), ("pt_BR", None)],
)
def test_a_tag_means_its_language(tag: str, code: str | None) -> None:
    if code is None:
        with pytest.raises(InvalidArgument, match="de, en, es, fr, zh"):
            languages.known("target_language", tag, KNOWN)
    else:
        assert languages.known("target_language", tag, KNOWN) == code


@pytest.mark.parametrize("tag", ["f", "french!", "fr-", "-", "\x00", "f" * 1000, "法语"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidArgument, match="BCP-47") as caught:
        languages.known("source_language", tag, KNOWN)
    assert caught.value.field == "source_language"


def test_traditional_chinese_can_be_read_but_not_asked_for() -> None:
    assert languages.known("source_language", "zh-TW", KNOWN) == "zh"
    with pytest.raises(InvalidArgument, match="simplified"):
        languages.known("target_language", "zh-Hant", KNOWN, written=True)
