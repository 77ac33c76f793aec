from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshwork.model_config import ModelConfig
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.sources import Catalogue, default_name, open_source

CATALOGUE = Catalogue(
    service="nlp",
    tasks=("text-classification", "text-embedding", "tensors"),
    architectures={"ForSequenceClassification": "text-classification", "Model": "text-embedding"},
    methods=lambda task: {"text-classification": ("ClassifyText",)}.get(task, ()),
)


def opened(source: str | Path, **settings: Any) -> ModelDirectory:
    return open_source(ModelConfig(source=str(source), **settings), CATALOGUE)


def pretrained(folder: Path, architecture: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return folder


def test_a_hugging_face_directory_needs_no_card(tmp_path: Path) -> None:
    card = opened(pretrained(tmp_path / "Tone_v1", "BertForSequenceClassification")).card
    assert (card.id, card.task, card.methods) == ("tone_v1@1", "text-classification", ("ClassifyText",))


def test_the_longest_ending_of_an_architecture_decides_its_task(tmp_path: Path) -> None:
    assert opened(pretrained(tmp_path / "a", "BertModel")).card.task == "text-embedding"


def test_what_the_operator_says_wins_over_the_directory(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "a", "BertForSequenceClassification")
    card = opened(
        folder, name="tone", version="7", precision="bfloat16", engine="auto", parameters={"pooling": "cls"}
    ).card
    assert (card.id, card.precision, card.engine) == ("tone@7", "bfloat16", "auto")
    assert card.parameters == {"pooling": "cls"}


def test_an_architecture_that_the_service_does_not_know_is_named_beside_those_it_does(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "a", "ViTForImageClassification")
    with pytest.raises(CardError, match=r"ViTForImageClassification.*ForSequenceClassification.*--task"):
        opened(folder)


def test_a_task_that_the_service_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "a", "BertModel")
    with pytest.raises(CardError, match="no task 'zebra'"):
        opened(folder, task="zebra")


@pytest.mark.parametrize("text", ["", "[1]", "not json", '{"architectures": 7}', "null"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CardError, match=r"config\.json"):
        opened(tmp_path)


def test_a_file_of_a_network_is_served_as_tensors(tmp_path: Path) -> None:
    (tmp_path / "Scorer.onnx").write_bytes(b"")
    directory = opened(tmp_path / "Scorer.onnx")
    assert (directory.card.id, directory.card.task, directory.only) == ("scorer@1", "tensors", "Scorer.onnx")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "s3://bucket/model", "starter://zebra"])
def test_a_source_that_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(CardError, match=source):
        opened(source)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf://acme/Big.Model_v2@main", "big.model_v2"),
        ("/models/ViT base/", "vit-base"),
        ("/m/net.onnx", "net"),
        ("/m/...", "model"),
    ],
)
def test_a_model_without_a_name_is_called_after_its_source(source: str, name: str) -> None:
    assert default_name(source) == name
