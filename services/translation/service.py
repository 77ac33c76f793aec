"""meshwork.translation.v1.TranslationService: requests to tasks and back."""

from __future__ import annotations

from typing import Any

import grpc.aio

from meshwork.errors import InvalidArgument
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.translation.v1 import translation_pb2, translation_pb2_grpc
from services.translation.tasks.detect import LanguageDetector
from services.translation.tasks.translate import Passage, Translator

Context = grpc.aio.ServicerContext[Any, Any]

MOST_TEXTS = 128
LONGEST_TEXT = 2000  # characters
LONGEST_DETECTED = 1_000_000  # characters
MOST_DETECTED = 5  # languages in an answer


class TranslationService(translation_pb2_grpc.TranslationServiceServicer):
    """Answers translation's rpcs with the models of its replica."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def TranslateText(
        self, request: translation_pb2.TranslateTextRequest, context: Context
    ) -> translation_pb2.TranslateTextResponse:
        """Translates each text: an item of its own to the batcher."""
        texts = fields.texts("texts", request.texts, most=MOST_TEXTS, longest=LONGEST_TEXT)
        if not request.target_language.strip():
            raise InvalidArgument("should be a BCP-47 tag such as fr", field="target_language")
        inputs = [
            Passage(text, request.target_language, request.source_language, f"texts[{index}]")
            for index, text in enumerate(texts)
        ]
        answer = await self._models.run(Translator, "TranslateText", request.model, inputs, context)
        return translation_pb2.TranslateTextResponse(
            translations=[
                translation_pb2.Translation(
                    text=each.text, source_language=each.source, confidence=each.confidence
                )
                for each in answer.outputs
            ],
            served_by=answer.served_by,
        )

    async def DetectLanguage(
        self, request: translation_pb2.DetectLanguageRequest, context: Context
    ) -> translation_pb2.DetectLanguageResponse:
        """Ranks the likeliest languages of a text."""
        text = fields.text("text", request.text, longest=LONGEST_DETECTED)
        answer = await self._models.run(LanguageDetector, "DetectLanguage", request.model, [text], context)
        return translation_pb2.DetectLanguageResponse(
            languages=[
                translation_pb2.DetectedLanguage(language_code=each.code, confidence=each.probability)
                for each in answer.outputs[0][:MOST_DETECTED]
            ],
            served_by=answer.served_by,
        )

    async def ListLanguages(
        self, request: translation_pb2.ListLanguagesRequest, context: Context
    ) -> translation_pb2.ListLanguagesResponse:
        """Lists what a model translates; needs no device."""
        loaded = await self._models.acquire(Translator, "ListLanguages", request.model, context)
        known = sorted(loaded.task.languages.items())
        page, token = fields.page(known, request.page_size, request.page_token)
        return translation_pb2.ListLanguagesResponse(
            languages=[
                translation_pb2.Language(
                    language_code=code, display_name=tongue.name, target_languages=tongue.targets
                )
                for code, tongue in page
            ],
            next_page_token=token,
            served_by=loaded.served_by(),
        )
