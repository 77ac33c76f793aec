"""Typed clients of `meshwork.speech.v1`. Generated from meshwork/speech/v1/speech.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.speech.v1 import speech_pb2 as pb


class SpeechClient(calls.SyncService):
    """Listens and speaks."""

    FULL_NAME = "meshwork.speech.v1.SpeechService"

    def recognize(
        self,
        audio: calls.Media | pb.Audio,
        *,
        model: str = "",
        language_code: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecognizeResponse:
        """Writes down what is said in a recording, with the time of each word.

        Args:
            audio: The recording, at most 10 minutes long.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            language_code: BCP-47 language that is spoken, for example `en`. Empty to let a
                model of many languages find out; a model of one language refuses any other.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecognizeRequest(
            audio=calls.media(pb.Audio, audio),
            model=model,
            language_code=language_code,
        )
        return self._unary("Recognize", request, pb.RecognizeResponse, timeout_s, metadata)

    def synthesize(
        self,
        text: str,
        *,
        model: str = "",
        voice: str = "",
        speaking_rate: float = 0.0,
        encoding: pb.AudioEncoding.ValueType = pb.AUDIO_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.SynthesizeResponse:
        """Speaks a text.

        Args:
            text: What to say, 1 to 5000 characters.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            voice: A voice's name from ListVoices. Empty for the model's default.
            speaking_rate: Speed beside the voice's natural one, 0.5 to 3. Unset or 0 means 1.
            encoding: How the answer is encoded. Unspecified means WAV.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.SynthesizeRequest(
            text=text,
            model=model,
            voice=voice,
            speaking_rate=speaking_rate,
            encoding=encoding,
        )
        return self._unary("Synthesize", request, pb.SynthesizeResponse, timeout_s, metadata)

    def list_voices(
        self,
        *,
        model: str = "",
        language_code: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Voice]:
        """Lists the voices that Synthesize can speak with.

        All pages are fetched.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            language_code: Only voices of this BCP-47 language, for example `en` or `en-GB`.
                Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListVoicesRequest(
            model=model,
            language_code=language_code,
        )
        pages = self._pages("ListVoices", request, pb.ListVoicesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.voices]


class AsyncSpeechClient(calls.AsyncService):
    """Listens and speaks."""

    FULL_NAME = "meshwork.speech.v1.SpeechService"

    async def recognize(
        self,
        audio: calls.Media | pb.Audio,
        *,
        model: str = "",
        language_code: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecognizeResponse:
        """Writes down what is said in a recording, with the time of each word.

        Args:
            audio: The recording, at most 10 minutes long.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            language_code: BCP-47 language that is spoken, for example `en`. Empty to let a
                model of many languages find out; a model of one language refuses any other.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecognizeRequest(
            audio=calls.media(pb.Audio, audio),
            model=model,
            language_code=language_code,
        )
        return await self._unary("Recognize", request, pb.RecognizeResponse, timeout_s, metadata)

    async def synthesize(
        self,
        text: str,
        *,
        model: str = "",
        voice: str = "",
        speaking_rate: float = 0.0,
        encoding: pb.AudioEncoding.ValueType = pb.AUDIO_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.SynthesizeResponse:
        """Speaks a text.

        Args:
            text: What to say, 1 to 5000 characters.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            voice: A voice's name from ListVoices. Empty for the model's default.
            speaking_rate: Speed beside the voice's natural one, 0.5 to 3. Unset or 0 means 1.
            encoding: How the answer is encoded. Unspecified means WAV.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.SynthesizeRequest(
            text=text,
            model=model,
            voice=voice,
            speaking_rate=speaking_rate,
            encoding=encoding,
        )
        return await self._unary("Synthesize", request, pb.SynthesizeResponse, timeout_s, metadata)

    async def list_voices(
        self,
        *,
        model: str = "",
        language_code: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Voice]:
        """Lists the voices that Synthesize can speak with.

        All pages are fetched.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            language_code: Only voices of this BCP-47 language, for example `en` or `en-GB`.
                Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListVoicesRequest(
            model=model,
            language_code=language_code,
        )
        pages = await self._pages("ListVoices", request, pb.ListVoicesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.voices]
