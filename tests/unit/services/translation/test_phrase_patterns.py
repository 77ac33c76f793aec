"""The patterns that `phrases` learns from."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict

from services.translation.confidence import same_numbers
from services.translation.text import normalise, sentences
from training.phrases.corpus import LANGUAGES, Slots, examples, patterns
from training.phrases.grammar import noun, polish


def test_every_pattern_fills_in_every_language() -> None:
    slots, rng = Slots(), random.Random(0)
    for pattern in patterns():
        example = pattern.fill(slots, rng)
        for language, text in example.texts.items():
            assert not set("{}|") & set(text), text
            assert len(sentences(text)) == 1, text
            assert same_numbers(
                normalise(example.texts["en"], "en"), normalise(text, language), ("en", language)
            )


def test_a_sentence_has_one_translation() -> None:
    slots, rng = Slots(), random.Random(1)
    meant: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pattern in patterns():
        for _ in range(10):
            example = pattern.fill(slots, rng)
            for language in LANGUAGES[1:]:
                meant[language, normalise(example.texts[language], language)].add(example.texts["en"])
    assert [item for item in meant.items() if len(item[1]) > 1] == []


def test_held_out_examples_are_no_training_examples() -> None:
    training = {example.key for example in itertools.islice(examples(7, held_out=False), 5000)}
    assert not any(example.key in training for example in itertools.islice(examples(8, held_out=True), 1000))


def test_articles_follow_gender_case_and_vowel() -> None:
    station = noun("station | une gare | una estación | der Bahnhof | 个 火车站").forms
    assert station["de"]["4"] == "den Bahnhof"
    assert station["de"]["to"] == "zum Bahnhof"
    assert station["fr"]["to"] == "à la gare"
    hotel = noun("hotel | un hôtel | un hotel | das Hotel | 家 酒店").forms
    assert hotel["fr"]["of"] == "de l'hôtel"
    assert hotel["fr"]["this"] == "cet hôtel"
    assert hotel["es"]["to"] == "al hotel"
    assert hotel["de"]["my4"] == "mein Hotel"
    assert hotel["zh"]["a"] == "一家酒店"


def test_words_that_meet_are_polished() -> None:
    assert polish("fr", "un kilo de oranges") == "un kilo d'oranges"
    assert polish("es", "francés y inglés") == "francés e inglés"
    assert polish("es", "carne y hielo") == "carne y hielo"
