"""Each network, as it is served, gives what transformers gives on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from meshwork.serving.card import CardError, ModelCard, ModelDirectory
from meshwork.serving.engines.placement import placement
from services.nlp.networks import dense, padded
from services.nlp.networks.network import load_network
from services.nlp.networks.packed import PackedNetwork
from services.nlp.networks.packed_linear import PackedLinear, can_pack
from services.nlp.networks.padded import PaddedNetwork
from services.nlp.networks.reading import Reading, TextNetwork
from services.nlp.tokens import TextTokenizer, Tokens, load_tokenizer
from tests.unit.services.nlp.checkpoints import ARCHITECTURES, LONGEST, TEXTS, make

PACKED = ("bert", "distilbert", "roberta")
HEADS = {
    Reading.CLASSES: "AutoModelForSequenceClassification",
    Reading.TAGS: "AutoModelForTokenClassification",
    Reading.ANSWER: "AutoModelForQuestionAnswering",
    Reading.MEAN: "AutoModel",
    Reading.CLS: "AutoModel",
    Reading.MAX: "AutoModel",
}


def directory(folder: Path, precision: str = "float32") -> ModelDirectory:
    card = ModelCard(name="x", version="1", service="nlp", task="x", methods=("Embed",), precision=precision)
    return ModelDirectory(path=folder, card=card, source=str(folder))


def tokens_of(folder: Path) -> list[Tokens]:
    tokenizer = TextTokenizer(load_tokenizer(directory(folder)), LONGEST)
    alone = [tokenizer.text(text) for text in TEXTS]
    pairs = [tokenizer.pair(text, "What is it?", "labels") for text in TEXTS[:5]]
    return [*alone, *pairs]


def reference(folder: Path, reading: Reading, texts: list[Tokens]) -> list[NDArray[np.float32]]:
    """What transformers gives for each text alone."""
    network: Any = getattr(transformers, HEADS[reading]).from_pretrained(folder).eval()
    takes_kinds = network.config.model_type in ("bert", "electra")
    found = []
    with torch.inference_mode():
        for text in texts:
            given = {"input_ids": torch.from_numpy(text.ids)[None]}
            if takes_kinds and text.kinds is not None:
                given["token_type_ids"] = torch.from_numpy(text.kinds)[None]
            out = network(**given)
            match reading:
                case Reading.CLASSES | Reading.TAGS:
                    read = out.logits[0]
                case Reading.ANSWER:
                    read = torch.stack([out.start_logits[0], out.end_logits[0]], -1)
                case Reading.MEAN:
                    read = out.last_hidden_state[0].mean(0)
                case Reading.CLS:
                    read = out.last_hidden_state[0, 0]
                case Reading.MAX:
                    read = out.last_hidden_state[0].amax(0)
            found.append(read.numpy())
    return found


def furthest(got: list[NDArray[np.float32]], wanted: list[NDArray[np.float32]]) -> float:
    assert [each.shape for each in got] == [each.shape for each in wanted]
    return max(float(np.abs(a - b).max()) for a, b in zip(got, wanted, strict=True))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[tuple[str, str], Path] = {}

    def folder(architecture: str, reading: Reading) -> Path:
        key = (architecture, HEADS[reading])
        if key not in made:
            labels = {} if reading is Reading.ANSWER else {"num_labels": 5}
            made[key] = make(tmp_path_factory.mktemp("model"), *key, **labels)
        return made[key]

    return folder


@pytest.mark.parametrize("reading", HEADS, ids=lambda reading: reading.name.lower())
def test_a_mixed_batch_gives_what_transformers_gives_for_each_text(
    architecture: str, reading: Reading, folder_of: Any
) -> None:
    folder = folder_of(architecture, reading)
    network = load_network(directory(folder), "cpu", reading)
    assert isinstance(network, PackedNetwork if architecture in PACKED else PaddedNetwork)
    assert network.longest == LONGEST
    texts = tokens_of(folder)
    wanted = reference(folder, reading, texts)
    assert furthest(network(texts), wanted) < 1e-5
    assert furthest(network(texts[::-1])[::-1], wanted) < 1e-5
    assert furthest([network([text])[0] for text in texts[:4]], wanted[:4]) < 1e-5


@pytest.mark.parametrize("architecture", PACKED)
def test_a_batch_of_many_blocks_gives_what_its_texts_give_alone(architecture: str, folder_of: Any) -> None:
    folder = folder_of(architecture, Reading.CLASSES)
    network = load_network(directory(folder), "cpu", Reading.CLASSES)
    texts = tokens_of(folder)
    alone = [network([text])[0] for text in texts]
    assert sum(len(text.ids) for text in texts) * 8 > 2000
    assert furthest(network(texts * 8), alone * 8) < 1e-5


@pytest.mark.parametrize("architecture", [*PACKED, "deberta-v2"])
def test_bfloat16_is_near_float32(architecture: str, folder_of: Any) -> None:
    folder = folder_of(architecture, Reading.CLASSES)
    texts = tokens_of(folder)
    exact = load_network(directory(folder), "cpu", Reading.CLASSES)
    halved = load_network(directory(folder, "bfloat16"), "cpu", Reading.CLASSES)
    if architecture not in PACKED and not placement("cpu").holds("bfloat16"):
        pytest.skip("this processor does not compute in bfloat16, so float32 is kept")
    assert halved.nbytes < 0.7 * exact.nbytes
    error = furthest(halved(texts), exact(texts))
    assert 0 < error < 0.1


def packed_layers(network: Any) -> int:
    return sum(isinstance(each, PackedLinear) for each in network.engine.network.modules())


@pytest.mark.skipif(not can_pack(torch.device("cpu"), torch.float32), reason="nothing packs here")
@pytest.mark.parametrize("flaw", [None, AttributeError("no weight"), "wrong"])
def test_linear_layers_are_packed_unless_that_changes_answers(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch, flaw: Any
) -> None:
    folder = folder_of("electra", Reading.TAGS)
    texts = tokens_of(folder)
    pack_linears = padded.pack_linears

    def flawed(module: Any) -> None:
        pack_linears(module)
        if isinstance(flaw, Exception):
            raise flaw
        if flaw:
            module.module.electra.embeddings.word_embeddings.weight[5] *= -1

    monkeypatch.setattr(padded, "pack_linears", torch.no_grad()(flawed))
    network = load_network(directory(folder), "cpu", Reading.TAGS)
    assert (packed_layers(network) > 0) == (flaw is None)
    assert furthest(network(texts), reference(folder, Reading.TAGS, texts)) < 1e-5


def test_without_fused_operators_the_numbers_are_the_same(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("bert", Reading.CLASSES)
    texts = tokens_of(folder)
    fused = load_network(directory(folder), "cpu", Reading.CLASSES)(texts)
    monkeypatch.setattr(dense, "can_pack", lambda device, dtype: False)
    plain = load_network(directory(folder), "cpu", Reading.CLASSES)(texts)
    assert furthest(fused, plain) < 1e-5


def test_a_text_of_odd_tokens_leaves_its_neighbours_alone(folder_of: Any) -> None:
    folder = folder_of("bert", Reading.CLASSES)
    network = load_network(directory(folder), "cpu", Reading.CLASSES)
    broken: Any = network
    broken._encoder._words[7] = float("nan")
    texts = [Tokens(np.array([2, *range(10, 10 + length), 3]), None, False) for length in (5, 6, 7, 6)]
    bad = Tokens(np.array([2, 7, 11, 12, 3]), None, False)
    alone = [network([text])[0] for text in texts]
    together = network([*texts[:2], bad, *texts[2:]])
    assert np.isnan(together[2]).all()
    assert furthest([*together[:2], *together[3:]], alone) < 1e-5


def test_the_norms_old_names_and_sharded_weights_load(folder_of: Any, tmp_path: Path) -> None:
    folder = folder_of("bert", Reading.CLASSES)
    stored = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in stored.items()
    }
    names = sorted(renamed)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: renamed[name] for name in held}, tmp_path / part)
    index = {name: part for part, held in parts.items() for name in held}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    texts = tokens_of(folder)
    wanted = load_network(directory(folder), "cpu", Reading.CLASSES)(texts)
    assert furthest(load_network(directory(tmp_path), "cpu", Reading.CLASSES)(texts), wanted) == 0


def refused(folder: Path, reading: Reading, match: str) -> None:
    with pytest.raises(CardError, match=match):
        load_network(directory(folder), "cpu", reading)


def test_files_that_do_not_fit_are_refused(folder_of: Any, tmp_path: Path) -> None:
    refused(tmp_path, Reading.CLASSES, r"config\.json is missing")
    (tmp_path / "config.json").write_text("[1]")
    refused(tmp_path, Reading.CLASSES, "should be a mapping")
    folder = folder_of("bert", Reading.CLASSES)
    config = (folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    refused(tmp_path, Reading.CLASSES, r"model\.safetensors is missing")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    refused(tmp_path, Reading.ANSWER, r"lack qa_outputs\.weight")
    (tmp_path / "config.json").write_text(
        config.replace('"num_attention_heads": 4', '"num_attention_heads": 5')
    )
    refused(tmp_path, Reading.CLASSES, "heads do not divide")
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    refused(tmp_path, Reading.CLASSES, r"lack encoder\.layer\.2")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused(tmp_path, Reading.CLASSES, "weight_map")
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers"', '"layers"'))
    refused(tmp_path, Reading.CLASSES, "lacks num_hidden_layers")


def test_the_network_is_a_text_network_with_a_size(folder_of: Any) -> None:
    for architecture in ("bert", "deberta-v2"):
        network: TextNetwork = load_network(
            directory(folder_of(architecture, Reading.MEAN)), "cpu", Reading.MEAN
        )
        weights = sum(
            each.nbytes
            for each in transformers.AutoModel.from_pretrained(
                folder_of(architecture, Reading.MEAN)
            ).parameters()
        )
        assert 0.8 * weights < network.nbytes < 1.3 * weights
        assert network.pads == (architecture == "deberta-v2")
