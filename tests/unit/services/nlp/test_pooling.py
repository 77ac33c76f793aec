"""Directories as sentence-transformers lays them out, pooled as they ask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from meshwork.serving.card import CardError, ModelCard, ModelDirectory
from services.nlp.tasks.sentence_encoder import SentenceEncoder
from tests.unit.services.nlp.checkpoints import SENTENCES, SIZE, make

POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda hidden: hidden.mean(0),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.amax(0),
}


@pytest.fixture(scope="module", params=["bert", "roberta", "deberta-v2"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("plain"), request.param, "AutoModel")


def encoder(folder: Path, **parameters: Any) -> SentenceEncoder:
    card = ModelCard(
        name="x", version="1", service="nlp", task="x", methods=("Embed",), parameters=parameters
    )
    return SentenceEncoder.load(ModelDirectory(path=folder, card=card, source=str(folder)), "cpu")


def laid_out(plain: Path, folder: Path, pooling: dict[str, Any], *more: str, longest: int = 64) -> Path:
    shutil.copytree(plain, folder, dirs_exist_ok=True)
    names = ["Transformer", "Pooling", *more]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{name}" if index else "",
            "type": f"st.models.{name}",
        }
        for index, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": SIZE, **pooling})
    )
    return folder


def assert_pools(made: SentenceEncoder, plain: Path, pool: str) -> None:
    network = transformers.AutoModel.from_pretrained(plain).eval()
    tokens = [made.preprocess(text) for text in SENTENCES]
    for each, raw in zip(tokens, made.forward(tokens), strict=True):
        with torch.inference_mode():
            hidden = network(input_ids=torch.from_numpy(each.ids)[None]).last_hidden_state[0]
        wanted = torch.nn.functional.normalize(POOLS[pool](hidden), dim=0).numpy()
        assert np.abs(made.postprocess(each, raw).vector - wanted).max() < 1e-5


@pytest.mark.parametrize("pool", POOLS)
def test_a_directory_without_modules_is_pooled_as_its_card_says(plain: Path, pool: str) -> None:
    assert_pools(encoder(plain, pooling=pool), plain, pool)


@pytest.mark.parametrize(
    ("config", "pool"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_modules_say_how_to_pool(plain: Path, tmp_path: Path, config: dict[str, Any], pool: str) -> None:
    made = encoder(laid_out(plain, tmp_path / "made", config, "Normalize"), pooling="max")
    assert_pools(made, plain, pool)


def test_the_length_that_the_directory_states_is_kept(plain: Path, tmp_path: Path) -> None:
    made = encoder(laid_out(plain, tmp_path / "made", {"pooling_mode": "mean"}, longest=12))
    tokens = made.preprocess(" ".join(SENTENCES))
    assert len(tokens.ids) == 12
    assert tokens.truncated


@pytest.mark.parametrize(
    ("config", "more", "match"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, (), "cannot pool by"),
        ({"pooling_mode_lasttoken": True}, (), "pooling_mode_lasttoken"),
        ({}, (), "cannot pool by"),
        ({"pooling_mode": "mean"}, ("Dense",), "Dense cannot be run"),
    ],
)
def test_what_cannot_be_pooled_is_refused(
    plain: Path, tmp_path: Path, config: dict[str, Any], more: tuple[str, ...], match: str
) -> None:
    with pytest.raises(CardError, match=match):
        encoder(laid_out(plain, tmp_path / "made", config, *more))


@pytest.mark.parametrize("content", ["{", "3", '{"a": 1}', '[{"type": "x"}]', "[1]"])
def test_modules_that_are_none_are_refused(plain: Path, tmp_path: Path, content: str) -> None:
    folder = laid_out(plain, tmp_path / "made", {"pooling_mode": "mean"})
    (folder / "modules.json").write_text(content)
    with pytest.raises(CardError, match=r"modules\.json"):
        encoder(folder)


def test_a_pooling_that_there_is_not_is_refused(plain: Path) -> None:
    with pytest.raises(CardError, match="should be one of mean, cls, max"):
        encoder(plain, pooling="sum")
