"""A VITS model speaks as transformers has it speak, whoever shares its batch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, VitsModel

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.model_config import ModelConfig
from meshwork.serving.card import CardError
from meshwork.speech.v1 import speech_pb2 as pb
from services.speech.tasks.synthesize import Speech, TextInput
from services.speech.tasks.vits import LONGEST_PIECE, Vits
from services.speech.text_pieces import pieces
from tests.unit.services.speech.tiny_speech import CONTEXT, directory, save_vits, serving

TEXTS = ["hello world", "a", "the quick brown fox jumps over the lazy dog"]


def opened(folder: Path, **parameters: Any) -> Vits:
    return Vits.load(directory(folder, **parameters), "cpu")


def spoken(task: Vits, *texts: TextInput) -> list[Speech]:
    """The texts through one batch."""
    answers = task.forward([task.preprocess(text) for text in texts])
    for answer in answers:
        assert not isinstance(answer, MeshworkError), answer
    return [answer for answer in answers if isinstance(answer, Speech)]


def expected(
    folder: Path, text: str, *, seed: int = 555, speaker: int | None = None, rate: float = 1
) -> bytes:
    """What transformers says, alone."""
    model: Any = VitsModel.from_pretrained(folder).eval()
    given = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    torch.manual_seed(seed)
    with torch.no_grad():
        waveform = model(**given, speaker_id=speaker, speaking_rate=model.speaking_rate * rate).waveform[0]
    return np.round(waveform.clamp(-1, 1).numpy() * 32767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vits(tmp_path_factory.mktemp("vits"))


@pytest.fixture(scope="module")
def task(folder: Path) -> Vits:
    return opened(folder)


def test_a_batch_is_spoken_as_transformers_speaks_each_alone(task: Vits, folder: Path) -> None:
    answers = spoken(task, *(TextInput(text=text) for text in TEXTS))
    assert [answer.pcm for answer in answers] == [expected(folder, text) for text in TEXTS]
    assert len({answer.pcm for answer in answers}) == len(TEXTS)
    assert all(answer.rate_hz == 16_000 and answer.voice == "tiny" for answer in answers)


def test_the_seed_makes_the_noise_and_reaches_no_one_else(folder: Path) -> None:
    other = opened(folder, seed=7)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    (answer,) = spoken(other, TextInput(text=TEXTS[0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert answer.pcm == expected(folder, TEXTS[0], seed=7)
    assert answer.pcm != expected(folder, TEXTS[0])


def test_a_faster_rate_is_shorter(task: Vits, folder: Path) -> None:
    slow, fast = spoken(task, *(TextInput(text=TEXTS[2], speaking_rate=rate) for rate in (0.5, 2)))
    assert slow.duration_s > fast.duration_s
    assert fast.pcm == expected(folder, TEXTS[2], rate=2)


def test_every_speaker_is_a_voice(tmp_path: Path) -> None:
    save_vits(tmp_path, speakers=3)
    task = opened(tmp_path, voices=["anna", "ben", "cleo"])
    assert [voice.name for voice in task.voices] == ["anna", "ben", "cleo"]
    assert {voice.language for voice in task.voices} == {"en"}
    anna, cleo = spoken(task, TextInput(text=TEXTS[0]), TextInput(text=TEXTS[0], voice="Cleo"))
    assert (anna.voice, cleo.voice) == ("anna", "cleo")
    assert anna.pcm == expected(tmp_path, TEXTS[0], speaker=0)
    assert cleo.pcm == expected(tmp_path, TEXTS[0], speaker=2)
    with pytest.raises(InvalidArgument, match="anna, ben, cleo") as caught:
        task.preprocess(TextInput(text="hello", voice="zoe"))
    assert caught.value.field == "voice"


def test_a_long_text_is_said_piece_by_piece(task: Vits, folder: Path) -> None:
    text = "a first sentence ends here. " * 20
    (answer,) = spoken(task, TextInput(text=text))
    parts = list(pieces(text, LONGEST_PIECE))
    assert len(parts) == 2
    assert answer.pcm.startswith(expected(folder, parts[0]))


@pytest.mark.parametrize("longest", [1, 7, 30])
@pytest.mark.parametrize("text", ["", "One. Two! Three? 3.5 four;\nfive", "a" * 50, "你好。再见。", " \n\n "])
def test_pieces_lose_nothing(text: str, longest: int) -> None:
    parts = list(pieces(text, longest))
    assert "".join(parts) == text
    assert all(len(part) <= longest for part in parts)


@pytest.mark.parametrize("text", ["?!", "123", "\x00", "字", "👍 !"])
def test_a_text_without_letters_of_the_model_is_refused(task: Vits, text: str) -> None:
    with pytest.raises(InvalidArgument, match="nothing that voice tiny can say") as caught:
        task.preprocess(TextInput(text=text))
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    "parameters",
    [
        {"seed": -1},
        {"seed": "x"},
        {"voices": ["a", "b"]},
        {"voices": 3},
        {"noise_scale": 9},
        {"noise_scale": "x"},
        {"precision": "bfloat16"},
    ],
)
def test_settings_that_do_not_fit_are_refused(folder: Path, parameters: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=next(iter(parameters))):
        opened(folder, **parameters)


async def test_a_directory_is_served_as_it_is(folder: Path) -> None:
    async with serving(ModelConfig(source=str(folder), name="tiny")) as service:
        calls = [
            service.Synthesize(pb.SynthesizeRequest(text=text, encoding=pb.AUDIO_ENCODING_LINEAR16), CONTEXT)
            for text in TEXTS
        ]
        answers = await asyncio.gather(*calls)
        voices = await service.ListVoices(pb.ListVoicesRequest(language_code="en"), CONTEXT)
    assert [answer.audio_content for answer in answers] == [expected(folder, text) for text in TEXTS]
    assert [voice.name for voice in voices.voices] == ["tiny"]
