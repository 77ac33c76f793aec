"""Text networks as named tensors: what transformers gives for the same tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from meshwork.errors import InvalidArgument
from meshwork.serving.card import ModelCard, ModelDirectory
from services.nlp.networks.network import load_network
from services.nlp.networks.reading import Reading
from services.nlp.networks.tensors import NamedTensors
from tests.unit.services.nlp.checkpoints import LONGEST, make

HEADS = {
    Reading.CLASSES: "AutoModelForSequenceClassification",
    Reading.TAGS: "AutoModelForTokenClassification",
    Reading.ANSWER: "AutoModelForQuestionAnswering",
    Reading.CLS: "AutoModel",
}
ARCHITECTURES = ("bert", "roberta", "electra", "deberta-v2")


def opened(folder: Path, reading: Reading, engine: str = "torch") -> NamedTensors:
    card = ModelCard(name="x", version="1", service="nlp", task="x", methods=("Embed",), engine=engine)
    directory = ModelDirectory(path=folder, card=card, source=str(folder))
    return NamedTensors(load_network(directory, "cpu", reading), reading)


def batch(tensors: NamedTensors, padding: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    ids = random.integers(5, 60, (3, 12))
    held = np.ones_like(ids)
    for row, length in enumerate((12, 7, 1)):
        held[row, length:], ids[row, length:] = 0, padding
    given = {"input_ids": ids, "attention_mask": held}
    if len(tensors.inputs) > 2:
        given["token_type_ids"] = random.integers(0, 2, (3, 12)) * held
    return given


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("reading", HEADS, ids=lambda reading: reading.name.lower())
def test_tensors_in_give_the_tensors_of_transformers(
    architecture: str, reading: Reading, tmp_path: Path
) -> None:
    folder = make(tmp_path, architecture, HEADS[reading])
    tensors = opened(folder, reading)
    network: Any = getattr(transformers, HEADS[reading]).from_pretrained(folder).eval()
    given = batch(tensors, network.config.pad_token_id)
    with torch.inference_mode():
        wanted = network(**{name: torch.from_numpy(array) for name, array in given.items()})
    got = tensors.run(given)
    assert list(got) == [spec.name for spec in tensors.outputs]
    held = given["attention_mask"] != 0
    for spec in tensors.outputs:
        assert spec.fits(got[spec.name])
        expected = wanted.last_hidden_state[:, 0] if reading is Reading.CLS else wanted[spec.name]
        found, expected = got[spec.name], expected.numpy()
        if reading.by_token:
            assert not found[~held].any()
            found, expected = found[held], expected[held]
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("architecture", ["bert", "electra"])
@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("input_ids", np.full((3, 12), 10_000), "should be from 0 to"),
        ("input_ids", np.full((3, 12), -1), "should be from 0 to"),
        ("token_type_ids", np.full((3, 12), 2), "should be from 0 to 1"),
        ("attention_mask", np.zeros((3, 12), np.int64), "a token a text"),
        ("attention_mask", np.ones((3, 9), np.int64), "should have the shape"),
        ("input_ids", np.ones((3, 12), np.int32), "should be int64"),
    ],
)
def test_tensors_that_no_network_could_read_are_refused_by_name(
    architecture: str, name: str, value: Any, match: str, tmp_path: Path
) -> None:
    tensors = opened(make(tmp_path, architecture, "AutoModel"), Reading.MEAN)
    with pytest.raises(InvalidArgument, match=match):
        tensors.run({**batch(tensors, 0), name: value})


def test_more_tokens_than_the_network_has_positions_are_refused(tmp_path: Path) -> None:
    tensors = opened(make(tmp_path, "bert", "AutoModel"), Reading.MEAN)
    long = np.full((1, LONGEST + 1), 7)
    with pytest.raises(InvalidArgument, match=f"at most {LONGEST}"):
        tensors.run({"input_ids": long, "attention_mask": np.ones_like(long), "token_type_ids": long * 0})


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")
def test_a_network_runs_on_the_engine_that_its_card_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("MESHWORK_CACHE", str(tmp_path / "cache"))
    folder = make(tmp_path / "model", "bert", "AutoModelForTokenClassification")
    plain, other = opened(folder, Reading.TAGS), opened(folder, Reading.TAGS, "onnxruntime")
    assert (plain.name, other.name) == ("torch", "onnxruntime:CPU")
    given = batch(plain, 0)
    assert np.abs(plain.run(given)["logits"] - other.run(given)["logits"]).max() < 1e-4
