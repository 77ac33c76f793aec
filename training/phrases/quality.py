"""Measures the translator, fits its confidence, and writes its directory."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from services.translation.confidence import FEATURES, confidence
from services.translation.familiarity import Familiarity
from services.translation.networks.seq2seq import Seq2Seq
from services.translation.tasks.langid import identifier
from services.translation.tasks.phrases import Phrases
from services.translation.text import normalise
from services.translation.tokenizer import Tokenizer
from training.phrases.corpus import HERE, Example, examples, patterns
from training.phrases.grammar import LANGUAGES
from training.phrases.train import DIRECTIONS

THRESHOLD = 0.5
NAMES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese (simplified)"}
MEASURED = 600  # distinct held-out examples in each direction
FITTED = 400  # others, that the confidence is fitted on
FAMILIAR = 30_000  # training examples whose words count as known

Measurements = list[dict[str, str | float]]


@dataclass(frozen=True)
class Trust:
    """The fitted confidence and how well it tells."""

    weights: list[float]
    auroc: float
    inside_above: float  # share of held-out sentences at THRESHOLD or above
    outside_below: float
    outside: int  # sentences from elsewhere that it was measured on


def familiarity() -> Familiarity:
    """The words and pairs of words of training's sentences, in every wording."""

    def said() -> Iterator[tuple[str, str]]:
        for example in itertools.islice(examples(2, held_out=False), FAMILIAR):
            for language in LANGUAGES:
                for text in (example.texts[language], *example.others[language]):
                    yield language, normalise(text, language)

    return Familiarity.of(said())


def exact_match(task: Phrases, held_out: Sequence[Example]) -> dict[tuple[str, str], float]:
    """The share of held-out examples that come out letter by letter, by direction."""
    shares = {}
    for source, target in DIRECTIONS:
        legs = [leg for example in held_out for leg in task.legs(example.texts[source], source, target)]
        hits = [
            carried.text == example.texts[target]
            for carried, example in zip(task.carry(legs), held_out, strict=True)
        ]
        shares[source, target] = sum(hits) / len(hits)
        misses = [index for index, hit in enumerate(hits) if not hit][:3]
        print(f"{source} -> {target}: {shares[source, target]:.4f}", flush=True)
        for index in misses:
            print(f"    {held_out[index].texts[source]}  should be  {held_out[index].texts[target]}")
    return shares


def detection(held_out: Sequence[Example]) -> tuple[float, float]:
    """Shares of held-out sentences whose language is found: among all of langid's, among LANGUAGES."""
    readers = identifier(), identifier(LANGUAGES)
    shares = [
        float(np.mean([reader.classify(e.texts[code])[0] == code for e in held_out for code in LANGUAGES]))
        for reader in readers
    ]
    return shares[0], shares[1]


def fit_confidence(task: Phrases, inside: Sequence[Example], held_out: Sequence[Example]) -> Trust:
    """Fits on `inside`, where it comes out right, against all else; measures on `held_out` and others."""
    rng = random.Random(5)
    outside = yaml.safe_load((HERE / "elsewhere.yaml").read_text(encoding="utf-8"))
    legs = [
        (task.legs(example.texts[source], source, target)[0], example.texts[target])
        for example in inside
        for source, target in DIRECTIONS
    ]
    carried = task.carry([leg for leg, _ in legs])
    good = np.array([task.features(each) for each in carried])
    right = [float(each.text == expected) for each, (_, expected) in zip(carried, legs, strict=True)]
    broken = _features(task, [(code, _broken(inside, code, rng)) for _ in inside for code in LANGUAGES])
    foreign = _features(task, [(code, text) for code, texts in outside["fit"].items() for text in texts])
    # The few sentences from elsewhere weigh as much as the many broken ones.
    repeats = max(1, len(broken) // len(foreign))
    x = np.concatenate([good, broken, *([foreign] * repeats)])
    y = np.concatenate([right, np.zeros(len(x) - len(good))])
    fitted = LogisticRegression(C=10.0, max_iter=2000, fit_intercept=False, class_weight="balanced").fit(x, y)
    weights = [float(weight) for weight in np.float32(fitted.coef_[0])]
    print("confidence: " + ", ".join(f"{n} {w:.2f}" for n, w in zip(FEATURES, weights, strict=True)))

    def scores(pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
        return np.array([confidence(weights, row) for row in _features(task, pairs)])

    above = scores([(code, example.texts[code]) for example in held_out for code in LANGUAGES])
    tested = [(code, text) for code, texts in outside["test"].items() for text in texts]
    below = scores(tested)
    targets = [text for code, text in tested for _ in _targets(code)]
    for text, score in zip(targets, below, strict=True):
        if score >= THRESHOLD:
            print(f"    trusted at {score:.2f} though from elsewhere: {text}")
    truth = np.concatenate([np.ones(len(above)), np.zeros(len(below))])
    return Trust(
        weights=weights,
        auroc=float(roc_auc_score(truth, np.concatenate([above, below]))),
        inside_above=float((above >= THRESHOLD).mean()),
        outside_below=float((below < THRESHOLD).mean()),
        outside=len(tested),
    )


def _targets(source: str) -> list[str]:
    return [target for start, target in DIRECTIONS if start == source]


def _features(task: Phrases, texts: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    legs = [task.legs(text, source, target)[0] for source, text in texts for target in _targets(source)]
    return np.array([task.features(carried) for carried in task.carry(legs)])


def _broken(examples_: Sequence[Example], language: str, rng: random.Random) -> str:
    """A sentence that no pattern says, made of those that they do: two spliced, or one shuffled."""
    one, two = (normalise(rng.choice(examples_).texts[language], language) for _ in range(2))
    if language == "zh":
        left, right = list(one), list(two)
    else:
        left, right = one.split(), two.split()
    if rng.random() < 0.6:
        mixed = left[: rng.randint(1, len(left))] + right[rng.randint(0, len(right) - 1) :]
    else:
        mixed = rng.sample(left, len(left))
    return ("" if language == "zh" else " ").join(mixed)


def write(
    folder: Path,
    network: Seq2Seq,
    tokenizer: Tokenizer,
    known: Familiarity,
    trust: Trust,
    shares: dict[tuple[str, str], float],
    detected: tuple[float, float],
) -> None:
    """Writes the weights and both cards."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{key}": tensor.half().contiguous() for key, tensor in network.state_dict().items()}
    tensors["familiarity"] = torch.from_numpy(known.hashes)
    tensors["confidence"] = torch.tensor(trust.weights)
    save_file(tensors, folder / "model.safetensors")
    tokenizer.save(folder / "tokenizer.json")
    size = network.config
    content = {
        "network": {
            "vocabulary": size.vocabulary,
            "width": size.width,
            "heads": size.heads,
            "layers": size.layers,
        },
        "languages": NAMES,
    }
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    held = f"{MEASURED} distinct held-out fillings of the patterns"
    quality: Measurements = [
        {"metric": f"exact match {source}-{target}", "value": round(share, 4), "dataset": held}
        for (source, target), share in shares.items()
    ]
    elsewhere = f"{trust.outside} sentences of news, literature, code and chat"
    quality += [
        {
            "metric": "confidence AUROC",
            "value": round(trust.auroc, 4),
            "dataset": f"{held} against {elsewhere}",
        },
        {"metric": "trusted at 0.5", "value": round(trust.inside_above, 4), "dataset": held},
        {"metric": "distrusted below 0.5", "value": round(trust.outside_below, 4), "dataset": elsewhere},
        {"metric": "source language accuracy", "value": round(detected[1], 4), "dataset": held},
    ]
    card = {
        "name": "phrases",
        "version": "1",
        "service": "translation",
        "task": "phrases",
        "methods": ["TranslateText", "ListLanguages"],
        "licence": "Apache-2.0",
        "description": f"Everyday phrases ({len(patterns())} patterns: travel, hotel, restaurant, shopping, "
        "health, numbers, dates, prices, times) between English, French, Spanish, German and Chinese.",
        "limits": [
            "A phrase book: it knows its patterns and their words, not the languages.",
            f"Ask for a confidence of {THRESHOLD} or more; below it the translation is not to be used.",
            "Between two languages other than English it goes through English, and confidences multiply.",
            "It speaks politely (vous, usted, Sie, 您) and as a man where grammar asks.",
            "Texts of at most 2000 characters; letters' case and punctuation are not read.",
        ],
        "quality": quality,
    }
    write_card(folder, card)
    langid = folder.parent / "langid" / "card.yaml"
    content_ = yaml.safe_load(langid.read_text(encoding="utf-8"))
    content_["quality"] = [
        {"metric": "accuracy", "value": round(detected[0], 4), "dataset": f"{held}, in five languages"}
    ]
    write_card(langid.parent, content_)


def write_card(folder: Path, card: dict[str, object]) -> None:
    """Writes card.yaml in the order of its keys."""
    text = yaml.safe_dump(card, allow_unicode=True, sort_keys=False, width=110)
    (folder / "card.yaml").write_text(text, encoding="utf-8")
