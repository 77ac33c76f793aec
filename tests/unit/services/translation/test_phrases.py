"""The starter `phrases` does what its card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError
from meshwork.serving.sources import open_directory
from services.translation.tasks.phrases import Phrases
from services.translation.tasks.translate import Passage, Translated
from training.phrases.corpus import HERE, distinct, patterns
from training.phrases.train import DIRECTIONS

THRESHOLD = 0.5


@pytest.fixture(name="phrases", scope="module")
def _phrases() -> Phrases:
    return Phrases.load(open_directory("starter://phrases", "translation"), "cpu")


def translate(phrases: Phrases, *passages: Passage) -> list[Translated]:
    prepared = [phrases.preprocess(passage) for passage in passages]
    raw = phrases.forward(prepared)
    return [phrases.postprocess(each, result) for each, result in zip(prepared, raw, strict=True)]


@pytest.mark.parametrize("text", ["Where is the station?", "where is the station", "WHERE IS THE STATION"])
def test_the_station_is_found_in_french(phrases: Phrases, text: str) -> None:
    [answer] = translate(phrases, Passage(text, "fr"))
    assert answer.text == "Où est la gare ?"
    assert answer.source == "en"
    assert answer.confidence >= THRESHOLD


def test_held_out_fillings_come_out_exactly(phrases: Phrases) -> None:
    held_out = distinct(2024, 250)
    hits = trusted = 0
    for source, target in DIRECTIONS:
        answers = translate(phrases, *(Passage(e.texts[source], target, source) for e in held_out))
        hits += sum(a.text == e.texts[target] for a, e in zip(answers, held_out, strict=True))
        trusted += sum(answer.confidence >= THRESHOLD for answer in answers)
    total = len(held_out) * len(DIRECTIONS)
    assert hits / total >= 0.95
    assert trusted / total >= 0.9


def test_what_no_pattern_says_is_not_trusted(phrases: Phrases) -> None:
    outside = yaml.safe_load((HERE / "elsewhere.yaml").read_text(encoding="utf-8"))["test"]
    passages = [
        Passage(text, "fr" if language == "en" else "en", language)
        for language, texts in outside.items()
        for text in texts
    ]
    distrusted = sum(answer.confidence < THRESHOLD for answer in translate(phrases, *passages))
    assert distrusted / len(passages) >= 0.95


def test_company_changes_no_translation(phrases: Phrases) -> None:
    passages = [
        Passage("Hello! I am from Japan. Thank you.", "de"),
        Passage("Wo ist der Bahnhof?", "fr"),
        Passage("Yes.", "zh"),
        Passage("我要买一本书", "en", "zh"),
        Passage("the quick brown fox jumps over the lazy dog " * 20, "es"),
    ]
    together = translate(phrases, *passages)
    for passage, answer in zip(passages, together, strict=True):
        [alone] = translate(phrases, passage)
        assert alone.text == answer.text
        assert alone.confidence == pytest.approx(answer.confidence, abs=1e-3)


def test_other_pairs_go_through_english(phrases: Phrases) -> None:
    [answer] = translate(phrases, Passage("Où est la gare ?", "de", "fr"))
    assert answer.text == "Wo ist der Bahnhof?"
    assert answer.confidence >= THRESHOLD


def test_a_text_in_the_target_language_comes_back_as_it_is(phrases: Phrases) -> None:
    [answer] = translate(phrases, Passage("Oui,  peut-être…", "fr-CA", "fr"))
    assert answer == Translated("Oui,  peut-être…", "fr", 1.0)


@pytest.mark.parametrize("text", ["?!", "—", "👍", "\x00", "\u200b"])
def test_what_has_no_words_comes_back_as_it_is(phrases: Phrases, text: str) -> None:
    [answer] = translate(phrases, Passage(text, "fr", "en"))
    assert answer.text == text


@pytest.mark.parametrize(
    "text",
    [
        "\x00a\x1b",
        "ªº² ½",
        "\U0001d518\U0001d52b\U0001d526",
        "ÿ" * 2000,
        "9" * 2000,
        "字" * 2000,
        "مرحبا بالعالم",
    ],
)
def test_strange_text_is_answered_with_low_confidence(phrases: Phrases, text: str) -> None:
    [answer] = translate(phrases, Passage(text, "fr", "en"))
    assert 0 <= answer.confidence < THRESHOLD


def test_unknown_languages_are_refused_by_field(phrases: Phrases) -> None:
    with pytest.raises(InvalidArgument, match="de, en, es, fr, zh") as caught:
        phrases.preprocess(Passage("Hello", "it"))
    assert caught.value.field == "target_language"
    with pytest.raises(InvalidArgument) as caught:
        phrases.preprocess(Passage("Hello", "fr", "tlh"))
    assert caught.value.field == "source_language"


def test_the_card_says_what_was_measured() -> None:
    card = open_directory("starter://phrases", "translation").card
    figures = {entry.metric: entry.value for entry in card.quality}
    for source, target in DIRECTIONS:
        assert figures[f"exact match {source}-{target}"] >= 0.95
    assert figures["confidence AUROC"] >= 0.95
    assert figures["distrusted below 0.5"] >= 0.95
    assert len(patterns()) >= 300


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_broken_file_is_said_to_be_broken(tmp_path: Path, name: str) -> None:
    directory = open_directory("starter://phrases", "translation")
    for file in directory.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != name else b"\x00{broken")
    with pytest.raises(CardError, match=name.partition(".")[0]):
        Phrases.load(replace(directory, path=tmp_path), "cpu")
