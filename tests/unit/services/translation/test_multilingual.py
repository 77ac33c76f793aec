"""M2M100 and NLLB translate as transformers has them translate, whatever languages share a batch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.translation.v1 import translation_pb2 as pb
from services.translation.tasks.multilingual import Multilingual
from services.translation.tasks.translate import Passage, Translated
from tests.unit.contexts import FakeContext
from tests.unit.services.translation.tiny_translation import (
    WORDS,
    directory,
    save_m2m100,
    save_nllb,
    serving,
)

CONTEXT: Any = FakeContext()
PAIRS = [("en", "fr"), ("en", "de"), ("en", "zh"), ("fr", "en"), ("de", "fr")]
M2M100 = {"en": "en", "fr": "fr", "de": "de", "zh": "zh"}
NLLB = {"en": "eng_Latn", "fr": "fra_Latn", "de": "deu_Latn", "zh": "zho_Hans"}


def translated(task: Multilingual, *passages: Passage) -> list[Translated]:
    """The passages through one batch."""
    prepared = [task.preprocess(passage) for passage in passages]
    return [task.postprocess(*each) for each in zip(prepared, task.forward(prepared), strict=True)]


class Reference:
    """transformers, one text at a time; languages by the model's codes."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def text(self, text: str, source: str, target: str) -> str:
        self.tokenizer.src_lang = source
        codes = getattr(self.tokenizer, "lang_code_to_id", None)
        first = codes[target] if codes else self.tokenizer.convert_tokens_to_ids(target)
        tokens = self.model.generate(**self.tokenizer(text, return_tensors="pt"), forced_bos_token_id=first)
        return self.tokenizer.decode(tokens[0], skip_special_tokens=True)


def check(folder: Path, codes: dict[str, str]) -> None:
    """Every pair and sentence of one batch is what it is alone."""
    task, reference = Multilingual.load(directory(folder), "cpu"), Reference(folder)
    asked = [(WORDS[i % len(WORDS)], *pair) for i, pair in enumerate(PAIRS)]
    answers = translated(task, *(Passage(text, target, source) for text, source, target in asked))
    want = [reference.text(text, codes[source], codes[target]) for text, source, target in asked]
    assert [answer.text for answer in answers] == want
    assert len(set(want)) == len(PAIRS)
    assert all(0 <= answer.confidence <= 1 for answer in answers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nllb(tmp_path_factory.mktemp("nllb"))


@pytest.fixture(scope="module")
def task(folder: Path) -> Multilingual:
    return Multilingual.load(directory(folder), "cpu")


@pytest.mark.parametrize("beams", [1, 3])
def test_m2m100_is_exact_with_a_target_a_row(tmp_path: Path, beams: int) -> None:
    check(save_m2m100(tmp_path, beams=beams), M2M100)


@pytest.mark.parametrize(("beams", "legacy"), [(1, False), (3, False), (1, True)])
def test_nllb_is_exact_with_a_target_a_row(tmp_path: Path, beams: int, legacy: bool) -> None:
    check(save_nllb(tmp_path, beams=beams, legacy=legacy), NLLB)


def test_a_target_makes_a_difference(task: Multilingual) -> None:
    answers = translated(task, *(Passage(WORDS[0], target, "en") for target in ("fr", "de", "zh-Hant")))
    assert len({answer.text for answer in answers}) == 3


@pytest.mark.parametrize(
    ("text", "tag"), [("fr", "fr"), ("fra_Latn", "fr"), ("fr-CA", "fr"), ("zh-TW", "zh-Hant"), ("no", "nb")]
)
def test_languages_go_by_bcp_47_or_the_models_code(task: Multilingual, text: str, tag: str) -> None:
    assert task.preprocess(Passage("Hello", text, "en")).target == tag


def test_the_source_is_detected_where_it_is_not_named(task: Multilingual) -> None:
    (answer,) = translated(task, Passage("où est la gare ?", "en"))
    assert answer.source == "fr"
    (same,) = translated(task, Passage("où est la gare ?", "fr"))
    assert same.text == "où est la gare ?"


@pytest.mark.parametrize(
    ("passage", "field"),
    [
        (Passage("Hello", "tlh"), "target_language"),
        (Passage("Hello", "?"), "target_language"),
        (Passage("Hello", "fr", "tlh"), "source_language"),
    ],
)
def test_an_unknown_language_is_refused_with_some_that_are_known(
    task: Multilingual, passage: Passage, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        task.preprocess(passage)
    assert caught.value.field == field
    assert passage.target == "?" or "and 182 more" in str(caught.value)


def test_all_languages_are_listed_with_names(task: Multilingual) -> None:
    assert len(task.languages) == 202
    assert task.languages["zh-Hans"].name == "Chinese (Simplified)"
    assert "fr" in task.languages["en"].targets
    assert "en" not in task.languages["en"].targets


async def test_a_directory_is_served_as_it_is(folder: Path) -> None:
    reference = Reference(folder)
    async with serving(ModelConfig(source=str(folder), name="tiny")) as service:
        calls = [
            service.TranslateText(
                pb.TranslateTextRequest(texts=WORDS[:2], target_language=target, source_language="en"),
                CONTEXT,
            )
            for target in ("fr", "de")
        ]
        answers = await asyncio.gather(*calls)
    for target, answer in zip(("fr", "de"), answers, strict=True):
        want = [reference.text(text, "eng_Latn", NLLB[target]) for text in WORDS[:2]]
        assert [each.text for each in answer.translations] == want
