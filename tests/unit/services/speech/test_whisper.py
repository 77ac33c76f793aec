"""A Whisper model is heard as transformers hears it, whoever shares its batch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.serving.card import CardError
from services.speech.tasks.recognize import Transcript
from services.speech.tasks.whisper import Whisper
from services.speech.words import grouped
from tests.unit.services.speech.tiny_speech import (
    CONTEXT,
    RATE_HZ,
    audio,
    directory,
    pcm,
    recording,
    request,
    serving,
)
from tests.unit.services.speech.tiny_whisper import NO_TIMES, TRANSLATE, WINDOW_S, save

SHORT = [recording(seconds, seed) for seed, seconds in enumerate((0.4, 1.7, WINDOW_S))]
LONG = [recording(seconds, seed) for seed, seconds in enumerate((2.6, 4.0, 3.3))]


def opened(folder: Path, **parameters: Any) -> Whisper:
    return Whisper.load(directory(folder, **parameters), "cpu")


def heard(task: Whisper, recordings: list[np.ndarray], language: str = "") -> list[Transcript]:
    """The recordings through one batch."""
    prepared = [task.preprocess(audio(samples, language)) for samples in recordings]
    raws = task.forward(prepared)
    return [task.postprocess(item, raw) for item, raw in zip(prepared, raws, strict=True)]


class Reference:
    """transformers, one recording at a time."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.texts: dict[tuple[Any, ...], str] = {}

    def features(self, samples: np.ndarray) -> Any:
        samples = np.frombuffer(pcm(samples), "<i2").astype(np.float32) / 32768
        whole = len(samples) > WINDOW_S * RATE_HZ
        return self.processor(
            samples,
            sampling_rate=RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
            **({"padding": "longest", "truncation": False} if whole else {}),
        )

    def generate(self, samples: np.ndarray, **options: Any) -> Any:
        given = self.features(samples)
        if given["input_features"].shape[-1] > 100 * WINDOW_S:
            options["return_timestamps"] = True
        return self.model.generate(given["input_features"], attention_mask=given["attention_mask"], **options)

    def text(self, samples: np.ndarray, **options: Any) -> str:
        key = (id(samples), *options.items())
        if key not in self.texts:
            tokens = self.generate(samples, **options)
            (text,) = self.processor.batch_decode(tokens, skip_special_tokens=True)
            self.texts[key] = text.strip()
        return self.texts[key]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def task(folder: Path) -> Whisper:
    return opened(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(scope="module")
def timed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("timed"), times=True)


@pytest.fixture(scope="module")
def timed(timed_folder: Path) -> Whisper:
    return opened(timed_folder)


@pytest.fixture(scope="module")
def timed_reference(timed_folder: Path) -> Reference:
    return Reference(timed_folder)


def test_a_batch_is_heard_as_transformers_hears_each_alone(task: Whisper, reference: Reference) -> None:
    texts = [answer.text for answer in heard(task, SHORT)]
    assert texts == [reference.text(samples) for samples in SHORT]
    assert len(set(texts)) == len(texts), "the recordings can't be told apart"


def test_long_recordings_are_heard_window_by_window_as_by_transformers(
    timed: Whisper, timed_reference: Reference
) -> None:
    texts = [answer.text for answer in heard(timed, LONG)]
    assert texts == [timed_reference.text(samples) for samples in LONG]
    assert len(set(texts)) == len(texts), "the recordings can't be told apart"


def test_features_are_those_of_the_feature_extractor(task: Whisper, reference: Reference) -> None:
    for samples in (SHORT[0], LONG[0]):
        features = task.preprocess(audio(samples)).recording.features
        np.testing.assert_array_equal(features, reference.features(samples)["input_features"][0].numpy())


@pytest.mark.parametrize("language", ["fr", "fr-CA", "french", "fra"])
def test_a_caller_says_which_language_is_spoken(task: Whisper, reference: Reference, language: str) -> None:
    for samples, answer in zip(SHORT[:2], heard(task, SHORT[:2], language), strict=True):
        assert answer.text == reference.text(samples, language="fr")
        assert answer.language == "fr"


def test_a_card_says_language_and_task(folder: Path, reference: Reference) -> None:
    task = opened(folder, language="english", task="translate")
    (answer,) = heard(task, [SHORT[1]])
    assert answer.text == reference.text(SHORT[1], language="en", task="translate")


def test_beams_are_searched_as_the_generation_config_says(tmp_path: Path) -> None:
    save(tmp_path, seed=3, num_beams=3)
    reference = Reference(tmp_path)
    answers = heard(opened(tmp_path), SHORT)
    assert [answer.text for answer in answers] == [reference.text(samples) for samples in SHORT]


def test_a_model_of_english_only_is_told_no_language(tmp_path: Path) -> None:
    english = {"is_multilingual": False, "lang_to_id": None, "task_to_id": None}
    save(tmp_path, forced_decoder_ids=[[1, NO_TIMES]], **english)
    task, reference = opened(tmp_path), Reference(tmp_path)
    for language in ("", "en-US"):
        assert [answer.text for answer in heard(task, SHORT, language)] == [reference.text(s) for s in SHORT]
    with pytest.raises(InvalidArgument, match="it has: en"):
        task.preprocess(audio(SHORT[0], "fr"))


def test_forced_tokens_of_older_configurations_are_kept(tmp_path: Path) -> None:
    save(tmp_path, forced_decoder_ids=[[1, None], [2, TRANSLATE]])
    task, reference = opened(tmp_path), Reference(tmp_path)
    assert [answer.text for answer in heard(task, SHORT)] == [reference.text(samples) for samples in SHORT]
    (answer,) = heard(task, SHORT[:1], "fr")
    assert answer.text == reference.text(SHORT[0], language="fr")


def test_token_times_are_those_of_transformers(task: Whisper, reference: Reference) -> None:
    for samples in SHORT:
        given = reference.features(samples)
        want = reference.model.generate(
            given["input_features"], attention_mask=given["attention_mask"], return_token_timestamps=True
        )
        reference.model.set_attn_implementation("sdpa")
        prepared = task.preprocess(audio(samples))
        ((first, *_),) = task.forward([prepared])
        times = task._token_ends(first, prepared.duration_s)
        np.testing.assert_allclose(times, want["token_timestamps"][0][: len(times)], atol=1e-6)


def test_confidence_is_the_networks_own(task: Whisper, reference: Reference) -> None:
    samples = SHORT[0]
    (answer,) = heard(task, [samples], "en")
    tokens = reference.generate(samples, language="en")[0]
    start = reference.processor.tokenizer.convert_tokens_to_ids(
        ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    )
    special = set(reference.processor.tokenizer.all_special_ids)
    sequence = torch.tensor([[*start, *tokens.tolist()]])
    features = reference.features(samples)["input_features"]
    with torch.no_grad():
        logits = reference.model(features, decoder_input_ids=sequence[:, :-1]).logits[0]
    scores = logits.log_softmax(-1).gather(-1, sequence[0, 1:, None])[len(start) - 1 :, 0]
    kept = [
        score for score, token in zip(scores.tolist(), tokens.tolist(), strict=True) if token not in special
    ]
    assert answer.confidence == pytest.approx(np.exp(np.mean(kept)), rel=1e-3)


def test_words_have_times_in_order_within_the_recording(timed: Whisper) -> None:
    for samples, answer in zip(LONG, heard(timed, LONG), strict=True):
        at = 0.0
        for word in answer.words:
            assert word.start_s is not None
            assert word.end_s is not None
            assert at - 1e-9 <= word.start_s <= word.end_s <= len(samples) / RATE_HZ + 1e-9
            at = word.start_s
            assert 0 <= word.confidence <= 1


def test_without_alignment_heads_words_have_their_segments_times_or_none(tmp_path: Path) -> None:
    task = opened(save(tmp_path, alignment_heads=None, times=True))
    (short,) = heard(task, SHORT[1:2])
    assert short.words
    assert all(word.start_s is None and word.end_s is None for word in short.words)
    (long,) = heard(task, LONG[1:2])
    reference = Reference(tmp_path)
    segments = reference.generate(LONG[1], return_segments=True)["segments"][0]
    spans = {(round(float(s["start"]), 2), round(float(s["end"]), 2)) for s in segments}
    firsts = {round(word.start_s, 2) for word in long.words if word.start_s is not None}
    assert firsts <= {start for start, _ in spans}


def test_a_model_without_times_hears_one_window(tmp_path: Path) -> None:
    save(tmp_path)
    file = tmp_path / "generation_config.json"
    settings = json.loads(file.read_text())
    for name in ("no_timestamps_token_id", "alignment_heads"):
        del settings[name]
    file.write_text(json.dumps(settings))
    task, reference = opened(tmp_path), Reference(tmp_path)
    (answer,) = heard(task, SHORT[1:2])
    assert answer.text == reference.text(SHORT[1])
    with pytest.raises(InvalidArgument, match="at most 2 seconds"):
        task.preprocess(audio(LONG[0]))


def test_only_recordings_of_a_kind_share_a_batch(task: Whisper) -> None:
    groups = [task.group(task.preprocess(audio(samples))) for samples in (*SHORT, *LONG)]
    assert groups == [groups[0]] * len(SHORT) + [groups[-1]] * len(LONG)
    assert groups[0] != groups[-1]
    costs = [task.cost(task.preprocess(audio(samples))) for samples in (SHORT[0], SHORT[2], LONG[0])]
    assert costs == [WINDOW_S, WINDOW_S, 2 * WINDOW_S]


@pytest.mark.parametrize("language", ["xx", "tlh", "deu"])
def test_a_language_that_the_model_has_not_is_refused(task: Whisper, language: str) -> None:
    with pytest.raises(InvalidArgument, match="en, fr, zh") as caught:
        task.preprocess(audio(SHORT[0], language))
    assert caught.value.field == "language_code"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("", {"language": "tlh"}, "language"),
        ("", {"task": "sing"}, "task"),
        ("model.safetensors", {}, "AutoModel"),
        ("processor_config.json", {}, "AutoProcessor"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, folder: Path, name: str, parameters: dict[str, str], message: str
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.name != name else b"\x00{")
    with pytest.raises(CardError, match=message):
        opened(tmp_path, **parameters)


def test_half_the_precision_is_half_the_memory(task: Whisper, folder: Path) -> None:
    half = opened(folder, precision="bfloat16")
    (answer,) = heard(half, SHORT[:1])
    assert answer.text
    assert 0 < answer.confidence <= 1
    assert half.memory_bytes() * 2 == task.memory_bytes()


def test_pieces_become_words(task: Whisper) -> None:
    tokenizer = task._tokenizer
    texts = {" the cat, sat": ["the", "cat,", "sat"], " 你好。世": ["你", "好。", "世"], "": [], " é": ["é"]}
    for text, words in texts.items():
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        found = grouped(tokenizer, tokens)
        assert [word for word, _, _ in found] == words
        assert [t for _, start, end in found for t in range(start, end)] == list(range(len(tokens)))


async def test_a_directory_is_served_as_it_is(timed_folder: Path, timed_reference: Reference) -> None:
    async with serving(ModelConfig(source=str(timed_folder), name="tiny")) as service:
        calls = [service.Recognize(request(samples), CONTEXT) for samples in (*LONG, SHORT[0], *LONG)]
        answers = await asyncio.gather(*calls)
    want = [timed_reference.text(samples) for samples in LONG]
    assert [answer.transcript for answer in answers[:3]] == want
    assert [answer.transcript for answer in answers[4:]] == want
    assert {answer.served_by.model for answer in answers} == {"tiny"}
    assert all(answer.language_code in ("en", "fr", "zh") for answer in answers)
