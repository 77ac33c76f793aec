"""Simulates readers, fits `sequence`, measures it as it is served, and writes its model directory.

`python -m training.sequence [--out DIRECTORY]`: some seven minutes on one core, the same result each time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from meshwork.serving.card import CARD_FILE
from meshwork.serving.sources import open_directory
from services.recommendation.networks.sasrec import SASRec, SASRecConfig
from services.recommendation.tasks.catalogue import ITEMS_FILE
from services.recommendation.tasks.recommend import Alike, Next, Wish
from services.recommendation.tasks.sequence import CONFIG_FILE, WEIGHTS_FILE, SequenceRecommender
from training.sequence import baselines
from training.sequence.catalogue import Catalogue, build
from training.sequence.fit import fit
from training.sequence.measure import Hits, hits, leave_one_out
from training.sequence.readers import simulate

SEED = 7
TRAIN_READERS = 12_000
TEST_READERS = 3_000
STARTER = Path(__file__).parents[2] / "services/recommendation/starters/sequence"

CARD = {
    "name": "sequence",
    "version": "1",
    "service": "recommendation",
    "task": "sequence",
    "methods": ["RecordEvents", "Recommend", "SimilarItems"],
    "licence": "Apache-2.0",
    "description": (
        "What a reader of a made-up library of 1,600 books takes next, from the order of what they took so "
        "far: a self-attentive sequential recommender (SASRec, Kang and McAuley 2018)."
    ),
    "limits": [
        "Catalogue and readers are simulated: it shows how the service behaves and knows no real book; train "
        "your own on your own events.",
        "Looks at the latest 50 known items of a history.",
        "A user without a known item gets what is popular.",
        "An item that it does not know is never recommended; SimilarItems answers for it from what users "
        "took shortly before it, once there are events of it.",
    ],
}


def main() -> None:
    """Makes the starter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=STARTER, help="directory to write (default: the starter's)"
    )
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    began = time.monotonic()

    catalogue = build(SEED)
    readers = simulate(catalogue, TRAIN_READERS + TEST_READERS, SEED)
    seen, unseen = readers[:TRAIN_READERS], readers[TRAIN_READERS:]
    steps = sum(map(len, readers))
    print(f"simulated {len(readers)} readers, {steps} steps, {len(catalogue.books)} books", flush=True)

    config = SASRecConfig(items=len(catalogue.books), width=64, blocks=2, heads=2, length=50, dropout=0.1)
    network = fit(config, seen, SEED)
    write(out, network, catalogue, seen)
    # Measured through the task that serves it, from the files that it is served from.
    task = SequenceRecommender.load(open_directory(str(out), "recommendation"), "cpu")
    quality = measure(task, catalogue, seen, unseen)
    for entry in quality:
        print(f"{entry['metric']:58} {entry['value']:.4f}")
    write_card(out, quality)
    print(f"wrote {out} after {time.monotonic() - began:.0f} s")


def write(out: Path, network: SASRec, catalogue: Catalogue, histories: Sequence[Sequence[int]]) -> None:
    """Writes weights, sizes, items and a card without figures."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), out / WEIGHTS_FILE)
    (out / WEIGHTS_FILE).chmod(0o644)  # save_file makes it private
    (out / CONFIG_FILE).write_text(json.dumps(asdict(network.config), indent=1) + "\n", encoding="utf-8")
    counts = baselines.popularity(histories, len(catalogue.books))
    lines = [
        json.dumps({"id": book.id, "title": book.title, "category": book.category, "popularity": int(count)})
        for book, count in zip(catalogue.books, counts, strict=True)
    ]
    (out / ITEMS_FILE).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    write_card(out, [])


def write_card(out: Path, quality: list[dict[str, object]]) -> None:
    """Writes `card.yaml` with the figures."""
    text = yaml.safe_dump({**CARD, "quality": quality}, sort_keys=False, width=110, allow_unicode=True)
    header = "# Written by `python -m training.sequence`.\n"
    (out / CARD_FILE).write_text(header + text, encoding="utf-8")


def measure(
    task: SequenceRecommender,
    catalogue: Catalogue,
    seen: Sequence[Sequence[int]],
    unseen: Sequence[Sequence[int]],
) -> list[dict[str, object]]:
    """The card's figures: `task` on unseen readers, beside scorers that count, and when it knows little."""
    items = len(catalogue.books)
    last = (
        f"the last item of each of {len(unseen)} simulated readers never seen in training, ranked among all "
        f"{items} items that the reader did not have"
    )
    quality: list[dict[str, object]] = []

    def figure(metric: str, value: float, dataset: str) -> None:
        quality.append({"metric": metric, "value": round(value, 4), "dataset": dataset})

    def figures(of: str, found: Hits, dataset: str) -> None:
        figure(f"HR@10{of}", found.hr10, dataset)
        figure(f"NDCG@10{of}", found.ndcg10, dataset)

    def served(histories: Sequence[Sequence[int]], unknown: float = 0.0) -> baselines.Scores:
        return serve(task, catalogue, histories, unknown)

    figures("", leave_one_out(served, unseen), last)
    for name, make in (
        ("popularity", baselines.by_popularity),
        ("item-to-item co-occurrence", baselines.by_co_occurrence),
        ("what followed the last item (Markov chain)", baselines.by_last_item),
    ):
        figures(f" of the baseline: {name}", leave_one_out(make(seen, items), unseen), f"the same: {last}")
    for kept in (1, 3):
        found = leave_one_out(served, unseen, keep=kept)
        figure(f"HR@10, shown only the latest {kept}", found.hr10, last)
    found = leave_one_out(lambda asked: served(asked, 0.3), unseen)
    figure("HR@10, 30% of the history unknown items", found.hr10, last)
    cold = hits(served([[] for _ in unseen]), [[] for _ in unseen], [history[0] for history in unseen])
    figure(
        "HR@10, no history (popularity)", cold.hr10, f"the first item of each of those {len(unseen)} readers"
    )
    figure(
        "share of the same category in SimilarItems' first 10",
        np.mean([alike(task, catalogue, book, {}) for book in range(items)]).item(),
        f"all {items} items",
    )
    before = taken_before(catalogue, unseen, reach=10)
    figure(
        "the same share, for an item it does not know",
        np.mean([alike(task, catalogue, book, before[book]) for book in sorted(before)]).item(),
        f"{len(before)} items as if unknown, by what those {len(unseen)} readers took up to 10 items before",
    )
    return quality


def serve(
    task: SequenceRecommender, catalogue: Catalogue, histories: Sequence[Sequence[int]], unknown: float
) -> baselines.Scores:
    """(histories, items) what the task answers when a share of each history is unknown to it."""
    rng = random.Random(SEED)
    books = catalogue.books
    rows: list[baselines.Scores] = []
    for start in range(0, len(histories), 100):
        batch = []
        for history in histories[start : start + 100]:
            ids = tuple("?" if rng.random() < unknown else books[number].id for number in history)
            batch.append(task.preprocess(Next(history=ids)))
        rows += task.forward(batch)
    return np.stack(rows)


def alike(task: SequenceRecommender, catalogue: Catalogue, number: int, before: dict[str, float]) -> float:
    """Share of the book's category among the ten most like it; known by what was `before` it, if given."""
    book = catalogue.books[number]
    query = Alike(
        item="?" if before else book.id,
        neighbours=before,
        wish=Wish(count=10, excluded=frozenset({book.id})),
    )
    asked = task.preprocess(query)
    found = task.postprocess(asked, task.forward([asked])[0]).items
    return sum(item.category == book.category for item in found) / len(found)


def taken_before(
    catalogue: Catalogue, histories: Sequence[Sequence[int]], reach: int
) -> dict[int, dict[str, float]]:
    """Book -> id of another -> how often that one stood up to `reach` items before it."""
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for history in histories:
        for place in range(1, len(history)):
            latest = history[max(0, place - reach) : place]
            counts[history[place]].update(catalogue.books[number].id for number in latest)
    return {number: dict(counter) for number, counter in counts.items()}


if __name__ == "__main__":
    main()
