import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file

from meshwork.serving.card import CardError, ModelDirectory
from services.nlp.tasks.embed import ZeroShot
from services.nlp.tasks.sentence_encoder import SentenceEncoder
from services.nlp.tokens import Tokens

SENTENCE = "The quick brown fox, tired of jumping, asks the lazy dogs whether they would like to nap. "
TEXTS = [
    "Hi",
    "Two words",
    "Naïve café",
    *(SENTENCE * count for count in (1, 2, 3, 5, 9, 20)),
    "日本語の文",
    "Hi",
]


def embed(encoder: SentenceEncoder, texts: list[str]) -> NDArray[np.float32]:
    tokens = [encoder.preprocess(text) for text in texts]
    raws = encoder.forward(tokens)
    return np.stack([encoder.postprocess(each, raw).vector for each, raw in zip(tokens, raws, strict=True)])


def test_embeddings_equal_the_reference_implementations(
    encoder: SentenceEncoder, minilm: ModelDirectory
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library that only this test uses
        from transformers import AutoModel, AutoTokenizer

        folder = str(minilm.file("config.json").parent)
        tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
        batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state
    held = batch["attention_mask"].unsqueeze(-1)
    means = (hidden * held).sum(1) / held.sum(1)
    reference = torch.nn.functional.normalize(means).numpy()
    assert np.abs(embed(encoder, TEXTS) - reference).max() < 1e-5


def test_company_in_the_batch_does_not_change_an_embedding(encoder: SentenceEncoder) -> None:
    alone = np.concatenate([embed(encoder, [text]) for text in TEXTS])
    assert np.abs(embed(encoder, TEXTS) - alone).max() < 1e-5
    assert np.abs(embed(encoder, TEXTS[::-1])[::-1] - alone).max() < 1e-5


@pytest.mark.parametrize("text", ["word " * 100_000, "x" * 500_000, "a" + " " * 500_000 + "b"])
def test_the_end_of_a_very_long_text_is_not_even_looked_at(encoder: SentenceEncoder, text: str) -> None:
    tokens = encoder.preprocess(text)
    assert tokens.truncated
    assert tokens.ids.tolist() == encoder.preprocess(text[: 256 * 100]).ids.tolist()


def test_cost_is_the_number_of_tokens(encoder: SentenceEncoder) -> None:
    assert encoder.cost(encoder.preprocess("one two three")) == 5


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400).filter(lambda text: text.isprintable() or "\x00" in text))
def test_any_text_gives_a_unit_vector(encoder: SentenceEncoder, text: str) -> None:
    assert abs(np.linalg.norm(embed(encoder, [text])[0]) - 1) < 1e-5


def test_scores_add_up_to_one_and_follow_the_cosines() -> None:
    labels = np.eye(3, dtype=np.float32)
    text = np.array([0.1, 0.9, 0.3], np.float32)
    for temperature in (1e-4, 0.02, 10.0):
        scores = ZeroShot(temperature=temperature).scores(text, labels)
        assert abs(float(scores.sum()) - 1) < 1e-6
        assert scores.argmax() == 1


@pytest.mark.parametrize(
    "wrong", [{"phrase": "no place"}, {"temperature": 0.0}, {"temperature": float("nan")}]
)
def test_a_zero_shot_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="temperature"):
        ZeroShot(**wrong)  # type: ignore[arg-type]


def copied(minilm: ModelDirectory, folder: Path, **changes: object) -> ModelDirectory:
    """A model directory like minilm's with other values in its config.json, and no weights."""
    config = json.loads(minilm.file("config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    (folder / "tokenizer.json").write_bytes(minilm.file("tokenizer.json").read_bytes())
    card = type(minilm.card)(
        name="x", version="1", service="nlp", task="sentence-encoder", methods=("Embed",)
    )
    return ModelDirectory(path=folder, card=card, source=str(folder))


def test_a_directory_without_weights_is_refused(minilm: ModelDirectory, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"model\.safetensors is missing"):
        SentenceEncoder.load(copied(minilm, tmp_path), "cpu")


def test_weights_that_are_broken_are_refused(minilm: ModelDirectory, tmp_path: Path) -> None:
    directory = copied(minilm, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}garbage")
    with pytest.raises(CardError):
        SentenceEncoder.load(directory, "cpu")


def test_weights_of_another_network_are_refused(minilm: ModelDirectory, tmp_path: Path) -> None:
    directory = copied(minilm, tmp_path)
    save_file({"embeddings.word_embeddings.weight": torch.zeros(10, 384)}, tmp_path / "model.safetensors")
    with pytest.raises(CardError, match="lack embeddings"):
        SentenceEncoder.load(directory, "cpu")


def test_a_network_that_is_no_bert_is_refused(minilm: ModelDirectory, tmp_path: Path) -> None:
    directory = copied(minilm, tmp_path, model_type="sundial")
    with pytest.raises(CardError, match="sundial"):
        SentenceEncoder.load(directory, "cpu")


def test_weights_under_the_prefix_bert_load_too(minilm: ModelDirectory, tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 1}
    directory = copied(minilm, tmp_path, **sizes)
    norm = {"weight": [8], "bias": [8]}
    square = {"weight": [8, 8], "bias": [8]}
    shapes = {
        "embeddings.word_embeddings": {"weight": [30522, 8]},
        "embeddings.position_embeddings": {"weight": [512, 8]},
        "embeddings.token_type_embeddings": {"weight": [2, 8]},
        "embeddings.LayerNorm": norm,
        **{f"encoder.layer.0.attention.self.{name}": square for name in ("query", "key", "value")},
        "encoder.layer.0.attention.output.dense": square,
        "encoder.layer.0.attention.output.LayerNorm": norm,
        "encoder.layer.0.intermediate.dense": {"weight": [16, 8], "bias": [16]},
        "encoder.layer.0.output.dense": {"weight": [8, 16], "bias": [8]},
        "encoder.layer.0.output.LayerNorm": norm,
    }
    random = torch.Generator().manual_seed(0)
    weights = {
        f"bert.{part}.{kind}": torch.randn(shape, generator=random)
        for part, kinds in shapes.items()
        for kind, shape in kinds.items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    encoder = SentenceEncoder.load(directory, "cpu")
    assert encoder.forward([Tokens(np.array([101, 7592, 102]), None, False)])[0].shape == (8,)


def test_serving_imports_no_training_library() -> None:
    script = (
        "import sys, services.nlp.__main__, services.nlp.service, services.nlp.tasks.sentence_encoder as s\n"
        "from meshwork.serving.sources import open_directory\n"
        "s.SentenceEncoder.load(open_directory('starter://minilm', 'nlp'), 'cpu').warm_up()\n"
        "heavy = {'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'torch._dynamo'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
