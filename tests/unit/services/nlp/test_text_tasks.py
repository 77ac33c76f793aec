"""Plain Hugging Face directories, served: answers equal transformers' own on the same weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from meshwork.errors import FailedPrecondition, InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.nlp.v1 import nlp_pb2 as pb
from meshwork.router.v1 import router_pb2
from meshwork.server import ServiceContext
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from services.nlp.__main__ import SPEC
from services.nlp.service import NlpService
from tests.unit.contexts import FakeContext
from tests.unit.services.nlp.checkpoints import LONGEST, SENTENCES, TEXTS, labels, make

ARCHITECTURES = ("bert", "distilbert", "roberta", "deberta-v2")
MOODS = labels("sad", "calm", "glad")
NLI = labels("contradiction", "neutral", "entailment")
TAGS = labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WISHES = ["travel", "cooking", "astronomy"]
CALLER: Any = FakeContext()
LONG = " ".join(SENTENCES * 6)


def models(folder: Path) -> list[ModelConfig]:
    made = []
    for seed, architecture in enumerate(ARCHITECTURES):
        for name, head, settings in (
            ("moods", "SequenceClassification", {**MOODS, "problem_type": "single_label_classification"}),
            ("many", "SequenceClassification", {**MOODS, "problem_type": "multi_label_classification"}),
            ("nli", "SequenceClassification", NLI),
            ("tags", "TokenClassification", TAGS),
            ("answers", "QuestionAnswering", {}),
        ):
            path = folder / f"{architecture}-{name}"
            make(path, architecture, f"AutoModelFor{head}", seed, **settings)
            made.append(ModelConfig(source=str(path)))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
async def table(folder: Path) -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-test", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures)
    for config in models(folder):
        await table.add(config)
    yield table
    await table.close()


@pytest.fixture(scope="module")
def served(table: ModelTable) -> NlpService:
    stateless: Any = None  # this service keeps nothing in Redis
    return NlpService(ServiceContext(table, stateless, stateless))


def pipeline(task: str, path: Path, **options: Any) -> Any:
    return transformers.pipeline(task, model=str(path), tokenizer=str(path), device="cpu", **options)


async def classify(service: NlpService, model: str, text: str, *wishes: str) -> dict[str, float]:
    request = pb.ClassifyTextRequest(model=model, text=text, labels=wishes)
    answer = await service.ClassifyText(request, CALLER)
    scores = [each.score for each in answer.classifications]
    assert scores == sorted(scores, reverse=True)
    return {each.label: each.score for each in answer.classifications}


def assert_near(got: dict[str, float], wanted: dict[str, float]) -> None:
    assert set(got) == set(wanted)
    assert max(abs(got[name] - wanted[name]) for name in got) < 1e-5


def test_every_directory_is_known_by_its_architecture(table: ModelTable) -> None:
    described = table.describe()
    assert {each.state for each in described} == {router_pb2.MODEL_STATE_READY}, described
    methods = {each.name.rpartition("-")[2]: list(each.methods) for each in described}
    assert methods["moods"] == methods["nli"] == ["ClassifyText"]
    assert methods["tags"] == ["ExtractEntities"]
    assert methods["answers"] == ["AnswerQuestion"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["moods", "many"])
async def test_a_text_gets_the_scores_that_transformers_gives(
    served: NlpService, folder: Path, architecture: str, name: str
) -> None:
    reference = pipeline("text-classification", folder / f"{architecture}-{name}", top_k=None)
    got = await asyncio.gather(*(classify(served, f"{architecture}-{name}", text) for text in TEXTS))
    for text, scores in zip(TEXTS, got, strict=True):
        assert_near(scores, {each["label"]: each["score"] for each in reference([text])[0]})
    sums = [sum(scores.values()) for scores in got]
    assert all(abs(each - 1) < 1e-5 for each in sums) == (name == "moods")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_a_model_of_entailment_sorts_into_the_callers_labels(
    served: NlpService, folder: Path, architecture: str
) -> None:
    reference = pipeline("zero-shot-classification", folder / f"{architecture}-nli")
    got = await asyncio.gather(*(classify(served, f"{architecture}-nli", text, *WISHES) for text in TEXTS))
    for text, scores in zip(TEXTS, got, strict=True):
        wanted = reference(text, WISHES)
        assert_near(scores, dict(zip(wanted["labels"], wanted["scores"], strict=True)))


async def test_a_text_beyond_the_models_length_is_read_as_far_as_it_goes(served: NlpService) -> None:
    scores = await classify(served, "bert-moods", LONG)
    assert abs(sum(scores.values()) - 1) < 1e-5
    scores = await classify(served, "bert-nli", LONG, *WISHES)
    assert abs(sum(scores.values()) - 1) < 1e-5


async def entities(service: NlpService, model: str, *texts: str, **fields: Any) -> list[list[pb.Entity]]:
    request = pb.ExtractEntitiesRequest(model=model, texts=texts, **fields)
    answer = await service.ExtractEntities(request, CALLER)
    return [list(each.entities) for each in answer.results]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_entities_are_those_that_transformers_groups(
    served: NlpService, folder: Path, architecture: str
) -> None:
    reference = pipeline(
        "token-classification", folder / f"{architecture}-tags", aggregation_strategy="simple"
    )
    got = await entities(served, f"{architecture}-tags", *TEXTS)
    found = 0
    for text, ours in zip(TEXTS, got, strict=True):
        wanted = [each for each in reference(text) if text[each["start"] : each["end"]].strip()]
        found += len(ours)
        assert [each.type for each in ours] == [each["entity_group"] for each in wanted]
        for mine, theirs in zip(ours, wanted, strict=True):
            assert mine.text == text[theirs["start"] : theirs["end"]].strip()
            assert text[mine.start : mine.end] == mine.text
            assert abs(mine.score - theirs["score"]) < 1e-5
    assert found > 20


@pytest.mark.parametrize(
    ("encoding", "units"),
    [
        (pb.OFFSET_ENCODING_UNSPECIFIED, lambda text: list(text)),
        (pb.OFFSET_ENCODING_CODE_POINTS, lambda text: list(text)),
        (pb.OFFSET_ENCODING_UTF8_BYTES, lambda text: text.encode()),
        (pb.OFFSET_ENCODING_UTF16_UNITS, lambda text: text.encode("utf-16-le")),
    ],
)
async def test_offsets_are_counted_as_asked(served: NlpService, encoding: Any, units: Any) -> None:
    text = "🙂 Ada é 日本 " * 2 + SENTENCES[0]
    (found,) = await entities(served, "bert-tags", text, offset_encoding=encoding)
    width = 2 if encoding == pb.OFFSET_ENCODING_UTF16_UNITS else 1
    assert found
    for each in found:
        piece = units(text)[each.start * width : each.end * width]
        assert list(piece) == list(units(each.text))


async def test_a_long_texts_tokens_are_each_tagged_once(served: NlpService, folder: Path) -> None:
    """Reference: transformers' windows, each token from where it has more text on both sides."""
    path = folder / "bert-tags"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    network = transformers.AutoModelForTokenClassification.from_pretrained(path).eval()
    overlap = LONGEST // 4
    parts = tokenizer(
        LONG, truncation=True, stride=overlap, return_overflowing_tokens=True, return_offsets_mapping=True
    )
    assert len(parts["input_ids"]) > 2
    best: dict[tuple[int, int], tuple[int, str]] = {}
    for ids, offsets in zip(parts["input_ids"], parts["offset_mapping"], strict=True):
        with torch.inference_mode():
            tags = network(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        for place in range(1, len(ids) - 1):
            margin = min(place, len(ids) - 1 - place)
            name = network.config.id2label[tags[place]]
            held = best.get(offsets[place])
            if held is None or margin > held[0]:
                best[offsets[place]] = (margin, name)
    wanted = {span for span, (_, name) in best.items() if name != "O"}
    (found,) = await entities(served, "bert-tags", LONG)
    assert [each.start for each in found] == sorted(each.start for each in found)
    ours = {span for span in best for each in found if each.start <= span[0] and span[1] <= each.end}
    assert ours == wanted


def reference_answers(path: Path, question: str, context: str) -> tuple[dict[tuple[int, int], float], float]:
    """Every span's score by brute force, and the score of no answer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    network = transformers.AutoModelForQuestionAnswering.from_pretrained(path).eval()
    parts = tokenizer(
        question,
        context,
        truncation="only_second",
        stride=LONGEST // 4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    spans: dict[tuple[int, int], float] = {}
    nones = []
    for index, ids in enumerate(parts["input_ids"]):
        given = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in parts:
            given["token_type_ids"] = torch.tensor([parts["token_type_ids"][index]])
        with torch.inference_mode():
            out = network(**given)
        part = parts.sequence_ids(index)
        held = [place for place in range(len(ids)) if place == 0 or part[place] == 1]
        begins = out.start_logits[0, held].double().softmax(0).tolist()
        ends = out.end_logits[0, held].double().softmax(0).tolist()
        nones.append(begins[0] * ends[0])
        offsets = parts["offset_mapping"][index]
        for i in range(1, len(held)):
            for j in range(i, min(i + 30, len(held))):
                span = offsets[held[i]][0], offsets[held[j]][1]
                spans[span] = max(spans.get(span, 0.0), begins[i] * ends[j])
    return spans, min(nones)


async def answer(service: NlpService, model: str, **fields: Any) -> pb.AnswerQuestionResponse:
    return await service.AnswerQuestion(pb.AnswerQuestionRequest(model=model, **fields), CALLER)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "context", [SENTENCES[0], " ".join(SENTENCES[:3]), LONG], ids=["short", "two", "long"]
)
async def test_answers_are_the_best_spans_of_all_windows(
    served: NlpService, folder: Path, architecture: str, context: str
) -> None:
    name = f"{architecture}-answers"
    question = "Who wrote the first program?"
    spans, none_score = reference_answers(folder / name, question, context)
    got = await answer(served, name, question=question, context=context, top_k=5)
    assert abs(got.no_answer_score - none_score) < 1e-5
    wanted = sorted(spans.values(), reverse=True)[:5]
    if none_score > wanted[0]:
        assert not got.answers
        return
    assert np.allclose([each.score for each in got.answers], wanted, atol=1e-5)
    for each in got.answers:
        assert context[each.start : each.end] == each.text
        assert abs(spans[each.start, each.end] - each.score) < 1e-5
    assert len({(each.start, each.end) for each in got.answers}) == 5


async def test_no_answer_is_said_when_it_is_the_likeliest(
    served: NlpService, folder: Path, table: ModelTable
) -> None:
    path = make(folder / "empty", "bert", "AutoModelForQuestionAnswering")
    network = transformers.AutoModelForQuestionAnswering.from_pretrained(path)
    with torch.no_grad():
        hidden = network.bert(torch.tensor([[2, 3]])).last_hidden_state[0, 0]
        network.qa_outputs.weight.copy_((hidden / hidden.norm()).expand(2, -1) * 20)
    network.save_pretrained(path)
    await table.add(ModelConfig(source=str(path)))
    got = await answer(served, "empty", question="Why?", context=SENTENCES[1])
    assert not got.answers
    assert got.no_answer_score > 0.5


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        ("ClassifyText", pb.ClassifyTextRequest(model="bert-moods", text="x", labels=["a", "b"]), "labels"),
        ("ClassifyText", pb.ClassifyTextRequest(model="bert-nli", text="x", labels=["a"]), "labels"),
        (
            "ClassifyText",
            pb.ClassifyTextRequest(model="bert-nli", text="x", labels=["a", "word " * 199]),
            "labels",
        ),
        ("ClassifyText", pb.ClassifyTextRequest(model="bert-moods", text=" "), "text"),
        ("ClassifyText", pb.ClassifyTextRequest(model="bert-tags", text="x"), "model"),
        ("ExtractEntities", pb.ExtractEntitiesRequest(model="bert-tags"), "texts"),
        ("ExtractEntities", pb.ExtractEntitiesRequest(model="bert-tags", texts=["x"] * 257), "texts"),
        ("ExtractEntities", pb.ExtractEntitiesRequest(model="bert-tags", texts=["x", ""]), "texts[1]"),
        ("ExtractEntities", pb.ExtractEntitiesRequest(model="bert-moods", texts=["x"]), "model"),
        ("AnswerQuestion", pb.AnswerQuestionRequest(model="bert-answers", context="x"), "question"),
        ("AnswerQuestion", pb.AnswerQuestionRequest(model="bert-answers", question="x"), "context"),
        (
            "AnswerQuestion",
            pb.AnswerQuestionRequest(model="bert-answers", question="who " * 500, context="x"),
            "question",
        ),
        (
            "AnswerQuestion",
            pb.AnswerQuestionRequest(model="bert-answers", question="who?", context="x", top_k=101),
            "top_k",
        ),
    ],
)
async def test_a_wrong_field_is_named(
    served: NlpService, method: str, request_message: Any, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await getattr(served, method)(request_message, CALLER)
    assert caught.value.field == field
    assert caught.value.remedy


async def test_a_service_without_such_a_model_says_so(service: NlpService) -> None:
    with pytest.raises(FailedPrecondition, match="no model that answers ExtractEntities"):
        await entities(service, "", "x")
    with pytest.raises(InvalidArgument, match="has no labels of its own") as caught:
        await classify(service, "minilm", "x")
    assert caught.value.field == "labels"


@pytest.mark.parametrize(
    "text", ["\x00", "\u202e\u200b", "𓂀𓆣" * 50, "\ufeff", "[SEP] [PAD] <pad> </s>", "x" * 5000]
)
async def test_odd_texts_are_answered_or_refused(served: NlpService, text: str) -> None:
    for architecture in ARCHITECTURES:
        for call in (
            classify(served, f"{architecture}-moods", text),
            classify(served, f"{architecture}-nli", text, *WISHES),
            entities(served, f"{architecture}-tags", text),
            answer(served, f"{architecture}-answers", question=text[:20], context=text),
        ):
            got = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(got[0], InvalidArgument | dict | list | pb.AnswerQuestionResponse), got
