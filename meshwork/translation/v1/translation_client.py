"""Typed clients of `meshwork.translation.v1`. Generated from meshwork/translation/v1/translation.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.translation.v1 import translation_pb2 as pb


class TranslationClient(calls.SyncService):
    """Translates text."""

    FULL_NAME = "meshwork.translation.v1.TranslationService"

    def translate_text(
        self,
        texts: str | Sequence[str],
        target_language: str,
        *,
        model: str = "",
        source_language: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.TranslateTextResponse:
        """Translates texts, and says how far each translation can be trusted.

        Args:
            texts: The texts to translate, 1 to 128 of them, none empty.
            target_language: BCP-47 language to translate into, for example `fr`.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            source_language: BCP-47 language of the texts. Empty to detect it for each text,
                which takes more than a few words; a model that reads one language takes them to
                be in it.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.TranslateTextRequest(
            texts=calls.texts(texts),
            target_language=target_language,
            model=model,
            source_language=source_language,
        )
        return self._unary("TranslateText", request, pb.TranslateTextResponse, timeout_s, metadata)

    def detect_language(
        self,
        text: str,
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DetectLanguageResponse:
        """Says which language a text is written in.

        Args:
            text: The text, not empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DetectLanguageRequest(
            text=text,
            model=model,
        )
        return self._unary("DetectLanguage", request, pb.DetectLanguageResponse, timeout_s, metadata)

    def list_languages(
        self,
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Language]:
        """Lists the languages that a model translates.

        All pages are fetched.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListLanguagesRequest(
            model=model,
        )
        pages = self._pages("ListLanguages", request, pb.ListLanguagesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.languages]


class AsyncTranslationClient(calls.AsyncService):
    """Translates text."""

    FULL_NAME = "meshwork.translation.v1.TranslationService"

    async def translate_text(
        self,
        texts: str | Sequence[str],
        target_language: str,
        *,
        model: str = "",
        source_language: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.TranslateTextResponse:
        """Translates texts, and says how far each translation can be trusted.

        Args:
            texts: The texts to translate, 1 to 128 of them, none empty.
            target_language: BCP-47 language to translate into, for example `fr`.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            source_language: BCP-47 language of the texts. Empty to detect it for each text,
                which takes more than a few words; a model that reads one language takes them to
                be in it.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.TranslateTextRequest(
            texts=calls.texts(texts),
            target_language=target_language,
            model=model,
            source_language=source_language,
        )
        return await self._unary("TranslateText", request, pb.TranslateTextResponse, timeout_s, metadata)

    async def detect_language(
        self,
        text: str,
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DetectLanguageResponse:
        """Says which language a text is written in.

        Args:
            text: The text, not empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DetectLanguageRequest(
            text=text,
            model=model,
        )
        return await self._unary("DetectLanguage", request, pb.DetectLanguageResponse, timeout_s, metadata)

    async def list_languages(
        self,
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Language]:
        """Lists the languages that a model translates.

        All pages are fetched.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListLanguagesRequest(
            model=model,
        )
        pages = await self._pages("ListLanguages", request, pb.ListLanguagesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.languages]
