"""SpeechService answers requests and names what is wrong with them."""

from __future__ import annotations

import base64
import subprocess
import sys

import numpy as np
import pytest

from meshwork.errors import InvalidArgument, ModelNotFound
from meshwork.server import ServiceContext
from meshwork.speech.v1 import speech_pb2 as pb
from services.speech.service import LONGEST_TEXT, SpeechService
from tests.unit.contexts import FakeContext


@pytest.fixture
def service(table):
    return SpeechService(ServiceContext(table, redis=None, keys=None))


def wrong(field):
    return pytest.raises(InvalidArgument, check=lambda error: error.field == field and bool(error.remedy))


async def test_a_recording_is_written_down(service, hello, encoded):
    request = pb.RecognizeRequest(audio=pb.Audio(content=encoded(hello)))
    answer = await service.Recognize(request, FakeContext())
    assert answer.transcript.startswith("hello")
    assert [word.word for word in answer.words] == answer.transcript.split()
    assert 0 < answer.confidence <= 1
    assert answer.audio_duration.ToTimedelta().total_seconds() == pytest.approx(len(hello) / 16000, abs=1e-3)
    assert answer.words[-1].end_time.ToNanoseconds() <= answer.audio_duration.ToNanoseconds()
    assert answer.served_by.model == "sphinx-en"
    assert answer.served_by.replica == "speech-test"


async def test_a_data_uri_is_as_good_as_bytes(service, hello, encoded):
    uri = "data:audio/flac;base64," + base64.b64encode(encoded(hello, kind="FLAC")).decode()
    answer = await service.Recognize(pb.RecognizeRequest(audio=pb.Audio(uri=uri)), FakeContext())
    assert answer.transcript.startswith("hello")


async def test_what_is_spoken_comes_back_as_asked(service):
    text = "we will meet tomorrow morning"
    spoken = await service.Synthesize(pb.SynthesizeRequest(text=text), FakeContext())
    assert spoken.encoding == pb.AUDIO_ENCODING_WAV
    assert spoken.audio_content.startswith(b"RIFF")
    assert spoken.voice == "en-US"
    assert spoken.served_by.model == "espeak"
    raw = await service.Synthesize(
        pb.SynthesizeRequest(text=text, encoding=pb.AUDIO_ENCODING_LINEAR16, voice="en-us", speaking_rate=1),
        FakeContext(),
    )
    assert spoken.audio_content.endswith(raw.audio_content)
    assert len(raw.audio_content) / 2 / raw.sample_rate_hertz == pytest.approx(
        raw.audio_duration.ToNanoseconds() / 1e9, abs=1e-3
    )
    audio = pb.Audio(
        content=raw.audio_content,
        encoding=pb.AUDIO_ENCODING_LINEAR16,
        sample_rate_hertz=raw.sample_rate_hertz,
    )
    heard = await service.Recognize(pb.RecognizeRequest(audio=audio), FakeContext())
    assert "tomorrow morning" in heard.transcript


async def test_voices_come_in_pages_until_the_last(service):
    names: list[str] = []
    request = pb.ListVoicesRequest(page_size=50)
    while True:
        answer = await service.ListVoices(request, FakeContext())
        names += [voice.name for voice in answer.voices]
        if not answer.next_page_token:
            break
        assert len(answer.voices) == 50
        request.page_token = answer.next_page_token
    assert len(names) == len(set(names)) > 100
    assert answer.served_by.model == "espeak"


async def test_voices_of_a_language_are_its_varieties(service):
    answer = await service.ListVoices(pb.ListVoicesRequest(language_code="en"), FakeContext())
    assert {"en-GB", "en-US"} <= {voice.language_code for voice in answer.voices}
    assert all(voice.language_code.startswith("en") for voice in answer.voices)
    nothing = await service.ListVoices(pb.ListVoicesRequest(language_code="tlh-XX"), FakeContext())
    assert not nothing.voices
    assert not nothing.next_page_token


LINEAR16 = pb.AUDIO_ENCODING_LINEAR16


@pytest.mark.parametrize(
    ("audio", "field"),
    [
        (pb.Audio(), "audio"),
        (pb.Audio(content=b""), "audio.content"),
        (pb.Audio(content=b"not audio"), "audio.content"),
        (pb.Audio(content=bytes(5000)), "audio.content"),
        (pb.Audio(uri=""), "audio.uri"),
        (pb.Audio(uri="https://example.com/a.wav"), "audio.uri"),
        (pb.Audio(uri="data:audio/wav;base64,@@"), "audio.uri"),
        (pb.Audio(uri="data:audio/wav;base64,"), "audio.uri"),
        (pb.Audio(uri="data:audio/wav;base64,UklGRg=="), "audio.uri"),
        (pb.Audio(content=bytes(64), encoding=77), "audio.encoding"),
        (pb.Audio(content=bytes(64), encoding=LINEAR16), "audio.sample_rate_hertz"),
        (pb.Audio(content=bytes(64), encoding=LINEAR16, sample_rate_hertz=-1), "audio.sample_rate_hertz"),
        (pb.Audio(content=bytes(64), encoding=LINEAR16, sample_rate_hertz=3999), "audio.sample_rate_hertz"),
        (pb.Audio(content=bytes(63), encoding=LINEAR16, sample_rate_hertz=8000), "audio.content"),
        (
            pb.Audio(content=bytes(64), encoding=LINEAR16, sample_rate_hertz=8000, channel_count=9),
            "audio.channel_count",
        ),
        (
            pb.Audio(content=bytes(64), encoding=LINEAR16, sample_rate_hertz=8000, channel_count=-1),
            "audio.channel_count",
        ),
        (
            pb.Audio(content=bytes(4000 * 2 * 601), encoding=LINEAR16, sample_rate_hertz=4000),
            "audio.content",
        ),
    ],
)
async def test_what_is_wrong_with_a_recording_is_named(service, audio, field):
    with wrong(field):
        await service.Recognize(pb.RecognizeRequest(audio=audio), FakeContext())


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SynthesizeRequest(), "text"),
        (pb.SynthesizeRequest(text=" \n\t"), "text"),
        (pb.SynthesizeRequest(text="x" * (LONGEST_TEXT + 1)), "text"),
        (pb.SynthesizeRequest(text="x", speaking_rate=0.4), "speaking_rate"),
        (pb.SynthesizeRequest(text="x", speaking_rate=3.1), "speaking_rate"),
        (pb.SynthesizeRequest(text="x", speaking_rate=-1), "speaking_rate"),
        (pb.SynthesizeRequest(text="x", speaking_rate=float("nan")), "speaking_rate"),
        (pb.SynthesizeRequest(text="x", encoding=9), "encoding"),
        (pb.SynthesizeRequest(text="x", voice="nobody"), "voice"),
        (pb.SynthesizeRequest(text="x", voice="../../etc/passwd"), "voice"),
        (pb.SynthesizeRequest(text="x", model="sphinx-en"), "model"),
    ],
)
async def test_what_is_wrong_with_a_text_is_named(service, request_, field):
    with wrong(field):
        await service.Synthesize(request_, FakeContext())


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListVoicesRequest(page_size=-1), "page_size"),
        (pb.ListVoicesRequest(page_size=1001), "page_size"),
        (pb.ListVoicesRequest(page_token="x"), "page_token"),
        (pb.ListVoicesRequest(language_code="english please"), "language_code"),
        (pb.ListVoicesRequest(language_code="*"), "language_code"),
    ],
)
async def test_what_is_wrong_with_a_listing_is_named(service, request_, field):
    with wrong(field):
        await service.ListVoices(request_, FakeContext())


async def test_an_unknown_model_lists_those_that_exist(service):
    with pytest.raises(ModelNotFound, match="sphinx-en@1, espeak@1"):
        await service.ListVoices(pb.ListVoicesRequest(model="nobody"), FakeContext())


async def test_noise_is_no_error(service, encoded):
    noise = np.random.default_rng(1).uniform(-1, 1, 16_000).astype(np.float32)
    request = pb.RecognizeRequest(audio=pb.Audio(content=encoded(noise)))
    answer = await service.Recognize(request, FakeContext())
    assert 0 <= answer.confidence <= 1


def test_the_service_imports_no_torch():
    code = (
        "import services.speech.__main__, services.speech.service, services.speech.tasks.sphinx, "
        "services.speech.tasks.espeak, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_recogniser_of_one_language_refuses_another(service, hello, encoded):
    audio = pb.Audio(content=encoded(hello))
    answer = await service.Recognize(pb.RecognizeRequest(audio=audio, language_code="en-GB"), FakeContext())
    assert answer.transcript.startswith("hello")
    for code in ("fr", "english please", "*"):
        with wrong("language_code"):
            await service.Recognize(pb.RecognizeRequest(audio=audio, language_code=code), FakeContext())
