"""The two starters, loaded once; what they say and hear is real."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile

from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.sources import open_directory
from services.speech.__main__ import SPEC
from services.speech.tasks.audio import AudioInput
from services.speech.tasks.espeak import ESpeak
from services.speech.tasks.recognize import Transcript
from services.speech.tasks.sphinx import Sphinx

HELLO = Path(__file__).parents[4] / "samples/hello.wav"


@pytest.fixture(scope="session")
def espeak() -> Iterator[ESpeak]:
    task = ESpeak.load(open_directory("starter://espeak", "speech"), "cpu")
    yield task
    task.close()


@pytest.fixture(scope="session")
def sphinx() -> Iterator[Sphinx]:
    task = Sphinx.load(open_directory("starter://sphinx-en", "speech"), "cpu")
    task.warm_up()
    yield task
    task.close()


@pytest.fixture(scope="session")
def hear(sphinx: Sphinx) -> Callable[..., Transcript]:
    """Runs one recording through the recogniser."""

    def heard(audio: AudioInput) -> Transcript:
        prepared = sphinx.preprocess(audio)
        (raw,) = sphinx.forward([prepared])
        assert isinstance(raw, list), raw
        return sphinx.postprocess(prepared, raw)

    return heard


@pytest_asyncio.fixture(scope="session")
async def table() -> AsyncIterator[ModelTable]:
    models = ModelTable("speech", "speech-test", SPEC.tasks, "cpu", LoadMeter())
    for starter in ("sphinx-en", "espeak"):
        await models.add(ModelConfig(source=f"starter://{starter}"))
    yield models
    await models.close()


@pytest.fixture(scope="session")
def hello() -> np.ndarray:
    """The sample greeting, [n_samples] at 16 kHz."""
    samples, rate = soundfile.read(HELLO, dtype="float32")
    assert rate == 16_000
    return samples


def encode(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """The samples as a file's bytes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return encode
