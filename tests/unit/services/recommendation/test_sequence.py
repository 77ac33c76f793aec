import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from meshwork.errors import InvalidArgument, NotFound
from meshwork.serving.card import CardError
from meshwork.serving.sources import open_directory
from services.recommendation.networks.sasrec import SASRec, SASRecConfig
from services.recommendation.tasks.recommend import Alike, Next, Query, Recommendations, Wish
from services.recommendation.tasks.sequence import SequenceRecommender

STARTER = Path(open_directory("starter://sequence", "recommendation").path)
ITEMS = json.loads((STARTER / "items.json").read_text())
SERIES = "the-lonely-robot"


def ask(task: SequenceRecommender, query: Query) -> Recommendations:
    asked = task.preprocess(query)
    return task.postprocess(asked, task.forward([asked])[0])


def ids(found: Recommendations) -> list[str]:
    return [item.id for item in found.items]


def test_the_next_volume_of_a_series_comes_first(recommender: SequenceRecommender) -> None:
    found = ask(recommender, Next(history=(SERIES, f"{SERIES}-2")))
    assert ids(found)[0] == f"{SERIES}-3"
    assert found.history_size == 2
    assert 0 < found.items[0].score <= 1


def test_a_follow_up_put_off_is_remembered(recommender: SequenceRecommender) -> None:
    aside = ("the-blue-startup", "the-hidden-painter", "the-patient-spice-box")
    assert all(recommender.knows(item) for item in aside)
    assert f"{SERIES}-2" in ids(ask(recommender, Next(history=(SERIES, *aside))))
    assert f"{SERIES}-2" not in ids(ask(recommender, Next(history=aside)))


def test_the_company_of_a_batch_changes_no_result(recommender: SequenceRecommender) -> None:
    rng = np.random.default_rng(0)
    histories = [
        tuple(ITEMS[number]["id"] for number in rng.choice(len(ITEMS), length, replace=False))
        for length in (1, 50, 3, 0, 17, 49, 120)
    ]
    queries: list[Query] = [Next(history=history) for history in histories]
    queries += [Alike(item=ITEMS[5]["id"]), Alike(item="new", neighbours={ITEMS[9]["id"]: 3, "newer": 9})]
    asked = [recommender.preprocess(query) for query in queries]
    together = recommender.forward(asked)
    for query, scores, prepared in zip(queries, together, asked, strict=True):
        (alone,) = recommender.forward([prepared])
        np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-6)
        assert ids(recommender.postprocess(prepared, scores)) == ids(ask(recommender, query))


@pytest.mark.parametrize("history", [(), ("unheard-of", "\0", "日本語")])
def test_somebody_unknown_gets_what_is_popular(
    recommender: SequenceRecommender, history: tuple[str, ...]
) -> None:
    found = ask(recommender, Next(history=history))
    popular = sorted(ITEMS, key=lambda item: -item["popularity"])[:10]
    assert [item.score for item in found.items] == sorted((item.score for item in found.items), reverse=True)
    assert set(ids(found)) == {item["id"] for item in popular}
    assert found.history_size == 0


def test_unknown_items_are_passed_over(recommender: SequenceRecommender) -> None:
    known = ask(recommender, Next(history=(SERIES, f"{SERIES}-2")))
    mixed = ask(recommender, Next(history=("new", SERIES, "newer", f"{SERIES}-2", "newest")))
    assert ids(mixed) == ids(known)
    assert mixed.history_size == 2


def test_of_an_item_taken_again_the_latest_time_counts(recommender: SequenceRecommender) -> None:
    again = ask(recommender, Next(history=("the-blue-startup", SERIES, "the-blue-startup")))
    once = ask(recommender, Next(history=(SERIES, "the-blue-startup")))
    assert ids(again) == ids(once)


def test_seen_items_come_back_only_when_wanted(recommender: SequenceRecommender) -> None:
    history = tuple(item["id"] for item in ITEMS[:120])
    wish = Wish(count=2000)
    without = ask(recommender, Next(history=history, wish=wish))
    assert len(without.items) == len(ITEMS) - 120
    assert not set(ids(without)) & set(history)
    assert without.history_size == 50
    assert len(ask(recommender, Next(history=history, include_seen=True, wish=wish)).items) == len(ITEMS)


def test_filters_hold_together_and_what_is_left_is_returned(recommender: SequenceRecommender) -> None:
    poems = {item["id"] for item in ITEMS if item["category"] == "poetry"}
    excluded = frozenset(sorted(poems)[:90]) | {"unheard-of"}
    wish = Wish(count=1000, categories=("poetry", "poetry"), excluded=excluded)
    assert set(ids(ask(recommender, Next(history=(SERIES,), wish=wish)))) == poems - excluded
    assert set(ids(ask(recommender, Alike(item=SERIES, wish=wish)))) == poems - excluded
    nothing = Wish(categories=("poetry",), excluded=frozenset(poems))
    assert ids(ask(recommender, Next(history=(), wish=nothing))) == []


def test_an_unknown_category_is_refused_with_those_that_exist(recommender: SequenceRecommender) -> None:
    with pytest.raises(InvalidArgument, match="poetry") as refused:
        recommender.preprocess(Next(history=(), wish=Wish(categories=("poetry", "knitting"))))
    assert refused.value.field == "filter.categories[1]"


def test_similar_items_are_of_a_kind_and_leave_the_item_out(recommender: SequenceRecommender) -> None:
    found = ask(recommender, Alike(item=SERIES))
    assert SERIES not in ids(found)
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert sum(item.category == "science-fiction" for item in found.items) >= 5


def test_an_unknown_item_stands_where_its_neighbours_stand(recommender: SequenceRecommender) -> None:
    neighbours = {item["id"]: 2.0 for item in ITEMS if item["category"] == "gardening"}
    found = ask(recommender, Alike(item="new-on-the-shelf", neighbours=neighbours))
    assert sum(item.category == "gardening" for item in found.items) >= 8


@pytest.mark.parametrize("neighbours", [{}, {"newer": 5.0}])
def test_an_item_of_which_nothing_is_known_is_not_found(
    recommender: SequenceRecommender, neighbours: dict[str, float]
) -> None:
    with pytest.raises(NotFound, match="record events of it") as missing:
        recommender.preprocess(Alike(item="new", neighbours=neighbours))
    assert (missing.value.kind, missing.value.name) == ("item", "new")


def test_no_position_of_the_network_sees_what_comes_after_it() -> None:
    torch.manual_seed(0)
    network = SASRec(SASRecConfig(items=20, width=8, blocks=2, heads=2, length=6)).eval()
    one, other = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 2, 3, 19, 20, 20]])
    torch.testing.assert_close(network(one)[:, :3], network(other)[:, :3])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b'{"items": 1600}'),
        ("config.json", b'{"items": 1600, "width": 64, "blocks": 2, "heads": 3, "length": 50}'),
        ("config.json", b'{"items": 1600, "width": 32, "blocks": 2, "heads": 2, "length": 50}'),
        ("config.json", b'{"items": 7, "width": 64, "blocks": 2, "heads": 2, "length": 50}'),
        ("items.json", b"\xff\xfe"),
        ("items.json", b"{}"),
        ("items.json", b"[]"),
        ("items.json", b'["a"]'),
        ("items.json", b'[{"id": "", "popularity": 1}]'),
        ("items.json", b'[{"id": "a", "popularity": -1}]'),
        ("items.json", b'[{"id": "a", "popularity": NaN}]'),
        ("items.json", b'[{"id": "a", "title": 3, "popularity": 1}]'),
        ("items.json", b'[{"id": "a", "popularity": 1}, {"id": "a", "popularity": 1}]'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
    ],
)
def test_a_model_directory_that_does_not_fit_says_which_file(
    tmp_path: Path, file: str, content: bytes
) -> None:
    shutil.copytree(STARTER, tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(CardError, match=file):
        SequenceRecommender.load(open_directory(str(tmp_path / "model"), "recommendation"), "cpu")


@pytest.mark.parametrize("file", ["config.json", "items.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    shutil.copytree(STARTER, tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    with pytest.raises(CardError, match=file):
        SequenceRecommender.load(open_directory(str(tmp_path / "model"), "recommendation"), "cpu")


def test_the_card_tells_of_more_than_the_baselines() -> None:
    quality = {
        entry.metric: entry.value
        for entry in open_directory("starter://sequence", "recommendation").card.quality
    }
    rivals = [value for metric, value in quality.items() if metric.startswith("HR@10 of the baseline")]
    assert len(rivals) == 3
    assert quality["HR@10"] > max(rivals)
