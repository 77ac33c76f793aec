"""A CTC network is heard as transformers hears it, whoever shares its batch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCTC, AutoProcessor, pipeline

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.serving.card import CardError
from meshwork.serving.engines.placement import placement
from services.speech.tasks.audio import AudioInput
from services.speech.tasks.ctc import Ctc
from services.speech.tasks.recognize import Transcript
from tests.unit.services.speech.tiny_speech import (
    CONTEXT,
    RATE_HZ,
    audio,
    directory,
    pcm,
    recording,
    request,
    save_ctc,
    serving,
)

RECORDINGS = [recording(seconds, seed) for seed, seconds in enumerate((1.3, 0.4, 2.1, 0.4, 0.05))]
KINDS = [("wav2vec2", "layer"), ("wav2vec2", "group"), ("hubert", "layer"), ("wavlm", "layer")]


def opened(folder: Path, **parameters: Any) -> Ctc:
    return Ctc.load(directory(folder, **parameters), "cpu")


def heard(task: Ctc, recordings: list[np.ndarray]) -> list[Transcript]:
    """The recordings through one batch."""
    prepared = [task.preprocess(audio(samples)) for samples in recordings]
    raws = task.forward(prepared)
    return [task.postprocess(item, raw) for item, raw in zip(prepared, raws, strict=True)]


def sent(samples: np.ndarray) -> np.ndarray:
    """Samples as they arrive."""
    return np.frombuffer(pcm(samples), "<i2").astype(np.float32) / 32768


class Reference:
    """transformers, one recording at a time."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCTC.from_pretrained(folder).eval()
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    def logits(self, samples: np.ndarray) -> torch.Tensor:
        given = self.processor(sent(samples), sampling_rate=RATE_HZ, return_tensors="pt")
        with torch.no_grad():
            return self.model(given["input_values"]).logits[0]

    def text(self, samples: np.ndarray) -> str:
        return self.processor.decode(self.logits(samples).argmax(-1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ctc(tmp_path_factory.mktemp("ctc"))


@pytest.fixture(scope="module")
def task(folder: Path) -> Ctc:
    return opened(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # WavLM's own
@pytest.mark.parametrize(("kind", "norm"), KINDS)
def test_a_batch_is_heard_as_transformers_hears_each_alone(tmp_path: Path, kind: str, norm: str) -> None:
    save_ctc(tmp_path, kind=kind, norm=norm)
    task, reference = opened(tmp_path), Reference(tmp_path)
    prepared = [task.preprocess(audio(samples)) for samples in RECORDINGS]
    for samples, item, raw in zip(RECORDINGS, prepared, task.forward(prepared), strict=True):
        scores, tokens = reference.logits(samples).log_softmax(-1).max(-1)
        np.testing.assert_array_equal(raw.tokens, tokens)
        np.testing.assert_allclose(raw.log_probabilities, scores, atol=1e-4)
        assert task.postprocess(item, raw).text == reference.text(samples)
    assert len({reference.text(samples) for samples in RECORDINGS}) == len(RECORDINGS)


def test_only_a_network_that_was_trained_with_a_mask_is_padded(tmp_path: Path) -> None:
    lengths = [21_000, 6_400, 6_400]
    for norm, passes in (("layer", [[1, 2, 0]]), ("group", [[1, 2], [0]])):
        save_ctc(tmp_path / norm, norm=norm)
        task = opened(tmp_path / norm)
        assert list(task._passes(lengths)) == passes
        padded = task.padded_length(task.preprocess(audio(RECORDINGS[0])))
        assert (padded > 0) == (norm == "layer")


def test_no_pass_holds_more_than_a_minute(task: Ctc) -> None:
    lengths = [25 * RATE_HZ, 1 * RATE_HZ, 25 * RATE_HZ, 25 * RATE_HZ, 30 * RATE_HZ]
    assert list(task._passes(lengths)) == [[1, 0], [2, 3], [4]]


def test_words_have_the_tokenizers_offsets(task: Ctc, reference: Reference) -> None:
    (answer,) = heard(task, RECORDINGS[2:3])
    tokens = reference.logits(RECORDINGS[2]).argmax(-1)
    offsets = reference.processor.decode(tokens, output_word_offsets=True).word_offsets
    frame_s = 320 / RATE_HZ
    assert [word.word for word in answer.words] == [each["word"] for each in offsets]
    assert len(offsets) > 1
    for word, each in zip(answer.words, offsets, strict=True):
        assert word.start_s == pytest.approx(each["start_offset"] * frame_s)
        assert word.end_s == pytest.approx(each["end_offset"] * frame_s)


def test_a_word_is_as_sure_as_its_frames(task: Ctc, reference: Reference) -> None:
    (answer,) = heard(task, RECORDINGS[:1])
    best = reference.logits(RECORDINGS[0]).log_softmax(-1).max(-1).values.numpy()
    spans = [
        best[round(word.start_s * 50) : round(word.end_s * 50)]
        for word in answer.words
        if word.start_s is not None and word.end_s is not None
    ]
    for word, span in zip(answer.words, spans, strict=True):
        assert word.confidence == pytest.approx(np.exp(span.mean()), rel=1e-3)
    assert answer.confidence == pytest.approx(np.exp(np.concatenate(spans).mean()), rel=1e-3)


def test_long_recordings_are_heard_in_the_chunks_of_transformers_pipeline(folder: Path) -> None:
    task = opened(folder, chunk_s=1.2)
    samples = [recording(seconds, seed) for seed, seconds in enumerate((4.3, 2.0))]
    listen = pipeline("automatic-speech-recognition", model=str(folder), chunk_length_s=1.2)
    want = [listen(sent(each))["text"] for each in samples]
    assert [answer.text for answer in heard(task, samples)] == want
    assert task.cost(task.preprocess(audio(samples[0]))) > 4.3


def test_a_card_asks_for_half_the_precision(folder: Path, task: Ctc) -> None:
    half = opened(folder, precision="bfloat16")
    if placement("cpu").holds("bfloat16"):
        assert half.memory_bytes() < task.memory_bytes()
    (answer,) = heard(half, RECORDINGS[:1])
    assert answer.text


def test_a_recording_too_short_to_hear_is_refused(task: Ctc) -> None:
    with pytest.raises(InvalidArgument, match="too short") as caught:
        task.preprocess(AudioInput(content=b"\0\0" * 100, raw=True, sample_rate_hz=RATE_HZ))
    assert caught.value.field == "audio.content"


def test_a_language_is_taken_at_the_cards_word(folder: Path, task: Ctc) -> None:
    french = opened(folder, language="fr")
    assert french.preprocess(audio(RECORDINGS[0], "fr-CA"))
    for model in (french, task):
        with pytest.raises(InvalidArgument) as caught:
            model.preprocess(audio(RECORDINGS[0], "de"))
        assert caught.value.field == "language_code"


@pytest.mark.parametrize("chunk_s", [0, -1, "long", 1e9, 0.01])
def test_a_chunk_that_cannot_be_is_refused(folder: Path, chunk_s: Any) -> None:
    with pytest.raises(CardError, match="chunk_s"):
        opened(folder, chunk_s=chunk_s)


async def test_a_directory_is_served_as_it_is(folder: Path, reference: Reference) -> None:
    async with serving(ModelConfig(source=str(folder), name="tiny")) as service:
        calls = [service.Recognize(request(samples), CONTEXT) for samples in RECORDINGS]
        answers = await asyncio.gather(*calls)
    assert [answer.transcript for answer in answers] == [reference.text(each) for each in RECORDINGS]
    assert {answer.served_by.model for answer in answers} == {"tiny"}
