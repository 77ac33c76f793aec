"""Models' codes of languages and BCP-47 tags find each other."""

from __future__ import annotations

import pytest
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from meshwork.errors import InvalidArgument
from services.translation.codes import Codes, joint, name


@pytest.mark.parametrize("codes", [M2M100["m2m100"], M2M100["wmt21"], NLLB], ids=["m2m100", "wmt21", "nllb"])
def test_every_language_of_a_model_has_a_tag_of_its_own(codes: list[str]) -> None:
    known = Codes(codes)
    assert sorted(known.by_tag.values()) == sorted(codes)
    for tag, code in known.by_tag.items():
        assert known.tag("language", tag) == tag
        assert known.by_tag[known.tag("language", code)] == code
        assert name(tag)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fr", "fra_Latn"),
        ("FR-ca", "fra_Latn"),
        ("zh", "zho_Hans"),
        ("zh-CN", "zho_Hans"),
        ("zh_TW", "zho_Hant"),
        ("ar", "arb_Arab"),
        ("no", "nob_Latn"),
        ("iw", "heb_Hebr"),
        ("tl", "tgl_Latn"),
        ("mn", "khk_Cyrl"),
        ("ps", "pbt_Arab"),
        ("pt-BR", "por_Latn"),
    ],
)
def test_a_tag_finds_the_language_that_people_mean(text: str, code: str) -> None:
    known = Codes(NLLB)
    assert known.by_tag[known.tag("language", text)] == code


def test_a_script_that_the_model_does_not_write_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Codes(["zho_Hans", "eng_Latn"]).tag("target_language", "zh-TW")


@pytest.mark.parametrize("text", ["", "?", "a b", "x" * 100, "\x00", "fr-", "en_", "--", "123"])
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="BCP-47") as caught:
        Codes(NLLB).tag("target_language", text)
    assert caught.value.field == "target_language"


def test_what_is_no_language_is_left_out() -> None:
    assert Codes(["fra", "fr", "ROMANCE", "pt_br", "xx_yy", ""]).by_tag == {"fr": "fra", "pt-BR": "pt_br"}


def test_sentences_are_joined_as_the_language_writes_them() -> None:
    assert (joint("fr"), joint("zh-Hans"), joint("ja")) == (" ", "", "")
