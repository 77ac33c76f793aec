import json

import numpy as np
import torch

from meshwork.serving.sources import open_directory
from services.recommendation.networks.sasrec import SASRecConfig
from training.sequence import fit
from training.sequence.__main__ import SEED
from training.sequence.catalogue import build
from training.sequence.measure import hits
from training.sequence.readers import simulate


def test_the_starter_has_the_items_of_the_catalogue_that_training_builds() -> None:
    path = open_directory("starter://sequence", "recommendation").file("items.json")
    assert [item["id"] for item in json.loads(path.read_text())] == [book.id for book in build(SEED).books]


def test_the_same_seed_simulates_the_same_readers() -> None:
    assert simulate(build(3), 20, 5) == simulate(build(3), 20, 5)
    assert simulate(build(3), 20, 5) != simulate(build(3), 20, 6)


def test_no_reader_takes_a_book_twice() -> None:
    assert all(len(set(history)) == len(history) >= 5 for history in simulate(build(3), 50, 5))


def test_fitting_twice_gives_the_same_weights() -> None:
    config = SASRecConfig(items=1600, width=8, blocks=1, heads=1, length=50)
    readers = simulate(build(3), 30, 5)
    one, other = (fit.fit(config, readers, 1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_hit_counts_by_its_rank_without_what_was_seen_and_ties_count_as_misses() -> None:
    scores = np.zeros((3, 30), np.float32)
    scores[0, :3] = 9, 8, 7  # item 2 is second, once item 0 is left out
    scores[1, 2] = 1  # first
    found = hits(scores, [[0], [5], [5]], [2, 2, 2])  # the third reader's item ties with all others
    assert found.hr10 == 2 / 3
    np.testing.assert_allclose(found.ndcg10, (1 / np.log2(3) + 1) / 3)
