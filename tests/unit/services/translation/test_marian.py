"""A Marian model translates as transformers has it translate, whoever shares its batch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.serving.card import CardError
from meshwork.translation.v1 import translation_pb2 as pb
from services.translation.tasks.marian import Marian
from services.translation.tasks.translate import Passage, Translated
from tests.unit.contexts import FakeContext
from tests.unit.services.translation.tiny_translation import SENTENCES, directory, save_marian, serving

CONTEXT: Any = FakeContext()


def translated(task: Any, *passages: Passage) -> list[Translated]:
    """The passages through one batch."""
    prepared = [task.preprocess(passage) for passage in passages]
    return [task.postprocess(*each) for each in zip(prepared, task.forward(prepared), strict=True)]


class Reference:
    """transformers, one text at a time."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.known: dict[str, torch.Tensor] = {}

    def tokens(self, text: str) -> torch.Tensor:
        if text not in self.known:
            self.known[text] = self.model.generate(**self.tokenizer(text, return_tensors="pt"))
        return self.known[text]

    def text(self, text: str) -> str:
        return self.tokenizer.decode(self.tokens(text)[0], skip_special_tokens=True)

    def confidence(self, text: str) -> float:
        tokens = self.tokens(text)
        with torch.no_grad():
            logits = self.model(
                **self.tokenizer(text, return_tensors="pt"), decoder_input_ids=tokens[:, :-1]
            ).logits
        scores = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])
        return float(scores.mean().exp())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_marian(tmp_path_factory.mktemp("marian"), beams=2)


@pytest.fixture(scope="module")
def task(folder: Path) -> Marian:
    return Marian.load(directory(folder), "cpu")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_batch_is_translated_as_transformers_translates_each_alone(tmp_path: Path, beams: int) -> None:
    save_marian(tmp_path, beams=beams)
    task, reference = Marian.load(directory(tmp_path), "cpu"), Reference(tmp_path)
    answers = translated(task, *(Passage(text, "fr", "en") for text in SENTENCES))
    assert [answer.text for answer in answers] == [reference.text(text) for text in SENTENCES]
    assert len({answer.text for answer in answers}) == len(SENTENCES)


def test_confidence_is_the_mean_of_the_networks_own(task: Marian, reference: Reference) -> None:
    texts = SENTENCES[:3]
    for text, answer in zip(texts, translated(task, *(Passage(t, "fr") for t in texts)), strict=True):
        ended = reference.tokens(text)[0, -1] == 0
        assert answer.confidence == pytest.approx(reference.confidence(text) if ended else 0, rel=1e-3)


def test_marks_choose_among_several_targets(tmp_path: Path) -> None:
    save_marian(tmp_path, marks=(">>fra<<", ">>deu<<", ">>cmn_Hans<<"), languages=("en", "mul"))
    task, reference = Marian.load(directory(tmp_path), "cpu"), Reference(tmp_path)
    assert task.languages["en"].targets == ("de", "fr", "zh")
    answers = translated(task, *(Passage(SENTENCES[0], target) for target in ("fr", "de", "zh-CN")))
    marks = (">>fra<<", ">>deu<<", ">>cmn_Hans<<")
    assert [answer.text for answer in answers] == [reference.text(f"{mark} {SENTENCES[0]}") for mark in marks]
    assert len({answer.text for answer in answers}) == 3


def test_languages_are_told_by_the_card_the_tokenizer_or_the_name(tmp_path: Path) -> None:
    folder = save_marian(tmp_path / "opus-mt-de-es", languages=(None, None))
    named = Marian.load(directory(folder), "cpu")
    assert {tag: tongue.targets for tag, tongue in named.languages.items()} == {"de": ("es",)}
    assert named.languages["de"].name == "German"
    told = Marian.load(directory(folder, source=["it", "pt"], target="en"), "cpu")
    assert set(told.languages) == {"it", "pt"}
    with pytest.raises(InvalidArgument, match="it, pt") as caught:
        told.preprocess(Passage("ciao", "en"))
    assert caught.value.field == "source_language"
    assert translated(told, Passage("ciao", "en", "it"))[0].source == "it"


def test_a_directory_that_does_not_say_its_languages_is_refused(tmp_path: Path) -> None:
    folder = save_marian(tmp_path / "mine", languages=(None, None))
    with pytest.raises(CardError, match="parameters: source"):
        Marian.load(directory(folder), "cpu")


def test_half_the_precision_is_half_the_memory(folder: Path, task: Marian) -> None:
    half = Marian.load(directory(folder, precision="bfloat16"), "cpu")
    (answer,) = translated(half, Passage(SENTENCES[0], "fr"))
    assert answer.text
    assert half.memory_bytes() < task.memory_bytes()


def test_a_long_text_goes_through_in_sentences(task: Marian, reference: Reference) -> None:
    text = " ".join(SENTENCES)
    longest = task._writer.longest
    prepared = task.preprocess(Passage(text, "fr"))
    assert len(prepared.pieces) > 1
    assert all(0 < len(piece.tokens) <= longest for piece in prepared.pieces)
    (answer,) = translated(task, Passage(text, "fr"))
    assert answer.text.startswith(reference.text(SENTENCES[0])[:4])


def test_a_sentence_that_the_network_cannot_hold_is_refused(task: Marian) -> None:
    with pytest.raises(InvalidArgument, match="shorter sentences") as caught:
        task.preprocess(Passage("word " * 300, "fr", field="texts[2]"))
    assert caught.value.field == "texts[2]"


@pytest.mark.parametrize(
    ("passage", "field"),
    [
        (Passage("Hello", "de"), "target_language"),
        (Passage("Hello", "?"), "target_language"),
        (Passage("Hallo", "fr", "de"), "source_language"),
    ],
)
def test_other_languages_are_refused_by_field(task: Marian, passage: Passage, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        task.preprocess(passage)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["\x00", "👍", "字" * 5, "</s>", ">>deu<<", "\u200b", "a\nb"])
def test_strange_text_is_answered(task: Marian, text: str) -> None:
    (answer,) = translated(task, Passage(text, "fr"))
    assert 0 <= answer.confidence <= 1


@pytest.mark.parametrize("name", ["model.safetensors", "source.spm", "vocab.json"])
def test_a_broken_file_is_said_to_be_broken(tmp_path: Path, folder: Path, name: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != name else b"\x00{")
    with pytest.raises(CardError, match="Auto"):
        Marian.load(directory(tmp_path), "cpu")


async def test_a_directory_is_served_as_it_is(folder: Path, reference: Reference) -> None:
    async with serving(ModelConfig(source=str(folder), name="tiny")) as service:
        calls = [
            service.TranslateText(pb.TranslateTextRequest(texts=texts, target_language="fr"), CONTEXT)
            for texts in (SENTENCES[:2], SENTENCES[2:3])
        ]
        answers = await asyncio.gather(*calls)
        listed = await service.ListLanguages(pb.ListLanguagesRequest(), CONTEXT)
    got = [each.text for answer in answers for each in answer.translations]
    assert got == [reference.text(text) for text in SENTENCES[:3]]
    assert {answer.served_by.model for answer in answers} == {"tiny"}
    assert [(each.language_code, list(each.target_languages)) for each in listed.languages] == [
        ("en", ["fr"])
    ]
