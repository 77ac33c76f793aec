"""SpeechService: protobuf <-> tasks."""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from meshwork.errors import InvalidArgument
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.speech.v1 import speech_pb2, speech_pb2_grpc
from services.speech.tasks.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MOST_CHANNELS, AudioInput
from services.speech.tasks.recognize import Recognizer
from services.speech.tasks.synthesize import Synthesizer, TextInput

LONGEST_TEXT = 5000  # characters
SLOWEST, FASTEST = 0.5, 3.0  # beside the voice's natural speed
_LANGUAGE = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*")

Context = grpc.aio.ServicerContext[Any, Any]


class SpeechService(speech_pb2_grpc.SpeechServiceServicer):
    """Listens and speaks."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Recognize(
        self, request: speech_pb2.RecognizeRequest, context: Context
    ) -> speech_pb2.RecognizeResponse:
        """Writes down what is said in a recording."""
        recording = _audio(request.audio, _language(request.language_code))
        answer = await self._models.run(Recognizer, "Recognize", request.model, [recording], context)
        (heard,) = answer.outputs
        return speech_pb2.RecognizeResponse(
            transcript=heard.text,
            confidence=heard.confidence,
            words=[
                speech_pb2.RecognizedWord(
                    word=word.word,
                    start_time=None if word.start_s is None else _duration(word.start_s),
                    end_time=None if word.end_s is None else _duration(word.end_s),
                    confidence=word.confidence,
                )
                for word in heard.words
            ],
            audio_duration=_duration(heard.duration_s),
            language_code=heard.language,
            served_by=answer.served_by,
        )

    async def Synthesize(
        self, request: speech_pb2.SynthesizeRequest, context: Context
    ) -> speech_pb2.SynthesizeResponse:
        """Speaks a text."""
        encoding = _encoding("encoding", request.encoding) or speech_pb2.AUDIO_ENCODING_WAV
        text = TextInput(
            text=fields.text("text", request.text, longest=LONGEST_TEXT),
            voice=request.voice,
            speaking_rate=fields.number(
                "speaking_rate", request.speaking_rate, default=1, low=SLOWEST, high=FASTEST
            ),
        )
        answer = await self._models.run(Synthesizer, "Synthesize", request.model, [text], context)
        (speech,) = answer.outputs
        raw = encoding == speech_pb2.AUDIO_ENCODING_LINEAR16
        return speech_pb2.SynthesizeResponse(
            audio_content=speech.pcm if raw else speech.wav(),
            encoding=encoding,
            sample_rate_hertz=speech.rate_hz,
            audio_duration=_duration(speech.duration_s),
            voice=speech.voice,
            served_by=answer.served_by,
        )

    async def ListVoices(
        self,
        request: speech_pb2.ListVoicesRequest,
        context: Context,
    ) -> speech_pb2.ListVoicesResponse:
        """Lists the voices that Synthesize can speak with."""
        language = _language(request.language_code)
        loaded = await self._models.acquire(Synthesizer, "ListVoices", request.model, context)
        voices = [voice for voice in loaded.task.voices if not language or voice.speaks(language)]
        page, next_page_token = fields.page(voices, request.page_size, request.page_token)
        return speech_pb2.ListVoicesResponse(
            voices=[
                speech_pb2.Voice(
                    name=voice.name, language_code=voice.language, display_name=voice.display_name
                )
                for voice in page
            ],
            next_page_token=next_page_token,
            served_by=loaded.served_by(),
        )


def _language(code: str) -> str:
    if code and not _LANGUAGE.fullmatch(code):
        raise InvalidArgument(
            "should be a BCP-47 language such as en or en-GB, or empty", field="language_code"
        )
    return code


def _audio(audio: speech_pb2.Audio, language: str) -> AudioInput:
    source = audio.WhichOneof("source")
    content = fields.media("audio", source, audio.content, audio.uri)
    if _encoding("audio.encoding", audio.encoding) != speech_pb2.AUDIO_ENCODING_LINEAR16:
        return AudioInput(content=content, field=f"audio.{source}", language=language)
    rate = audio.sample_rate_hertz
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise InvalidArgument(
            f"should be from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} with LINEAR16, not {rate}",
            field="audio.sample_rate_hertz",
        )
    return AudioInput(
        content=content,
        raw=True,
        sample_rate_hz=rate,
        channels=fields.count("audio.channel_count", audio.channel_count, default=1, high=MOST_CHANNELS),
        field=f"audio.{source}",
        language=language,
    )


def _encoding(field: str, value: speech_pb2.AudioEncoding.ValueType) -> speech_pb2.AudioEncoding.ValueType:
    if value not in speech_pb2.AudioEncoding.values():
        names = ", ".join(
            name.removeprefix("AUDIO_ENCODING_") for name, _ in speech_pb2.AudioEncoding.items()
        )
        raise InvalidArgument(f"should be one of {names}, not {value}", field=field)
    return value


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
