"""meshwork.translation.v1 over its real models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshwork.errors import InvalidArgument, ModelNotFound
from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.translation.v1 import translation_pb2 as pb
from services.translation.__main__ import SPEC
from services.translation.service import TranslationService
from tests.unit.contexts import FakeContext


class Models:
    """What the servicer needs of a ServiceContext."""

    def __init__(self, models: ModelTable) -> None:
        self.models = models


CONTEXT: Any = FakeContext()


@pytest.fixture(name="service", scope="module")
async def _service() -> AsyncIterator[TranslationService]:
    models = ModelTable("translation", "translation-0", SPEC.tasks, "cpu", LoadMeter())
    await models.add(ModelConfig(source="starter://phrases"))
    await models.add(ModelConfig(source="starter://langid"))
    context: Any = Models(models)
    yield TranslationService(context)
    await models.close()


async def test_a_batch_is_translated_in_order(service: TranslationService) -> None:
    request = pb.TranslateTextRequest(
        texts=["where is the station", "Guten Abend!", "谢谢。"], target_language="fr"
    )
    answer = await service.TranslateText(request, CONTEXT)
    assert [each.text for each in answer.translations] == ["Où est la gare ?", "Bonsoir !", "Merci."]
    assert [each.source_language for each in answer.translations] == ["en", "de", "zh"]
    assert answer.served_by.model == "phrases"


async def test_a_language_is_detected(service: TranslationService) -> None:
    request = pb.DetectLanguageRequest(text="Pouvez-vous me dire où se trouve la gare, s'il vous plaît ?")
    answer = await service.DetectLanguage(request, CONTEXT)
    scores = [each.confidence for each in answer.languages]
    assert answer.languages[0].language_code == "fr"
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert 0.5 < scores[0] <= sum(scores) <= 1.0001
    assert answer.served_by.model == "langid"


@pytest.mark.parametrize("text", ["\x00", "12345", "👍", "a" * 100_000])
async def test_any_text_gets_some_language(service: TranslationService, text: str) -> None:
    answer = await service.DetectLanguage(pb.DetectLanguageRequest(text=text), CONTEXT)
    assert all(0 <= each.confidence <= 1 for each in answer.languages)


async def test_languages_are_listed_by_page(service: TranslationService) -> None:
    first = await service.ListLanguages(pb.ListLanguagesRequest(page_size=3), CONTEXT)
    rest = await service.ListLanguages(pb.ListLanguagesRequest(page_token=first.next_page_token), CONTEXT)
    listed = [*first.languages, *rest.languages]
    assert [each.language_code for each in listed] == ["de", "en", "es", "fr", "zh"]
    assert list(listed[0].target_languages) == ["en", "es", "fr", "zh"]
    assert listed[0].display_name == "German"
    assert not rest.next_page_token


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.TranslateTextRequest(target_language="fr"), "texts"),
        (pb.TranslateTextRequest(texts=["a"] * 129, target_language="fr"), "texts"),
        (pb.TranslateTextRequest(texts=["Hello", " "], target_language="fr"), "texts[1]"),
        (pb.TranslateTextRequest(texts=["a" * 2001], target_language="fr"), "texts[0]"),
        (pb.TranslateTextRequest(texts=["Hello"]), "target_language"),
        (pb.TranslateTextRequest(texts=["Hello"], target_language="xx"), "target_language"),
        (
            pb.TranslateTextRequest(texts=["Hello"], target_language="fr", source_language="?"),
            "source_language",
        ),
        (pb.TranslateTextRequest(texts=["Hello"], target_language="fr", model="langid"), "model"),
    ],
)
async def test_a_bad_request_names_its_field(
    service: TranslationService, request_: pb.TranslateTextRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.TranslateText(request_, CONTEXT)
    assert caught.value.field == field


async def test_an_unknown_model_is_not_found(service: TranslationService) -> None:
    with pytest.raises(ModelNotFound):
        await service.ListLanguages(pb.ListLanguagesRequest(model="nonesuch"), CONTEXT)


async def test_a_foreign_page_token_is_refused(service: TranslationService) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.ListLanguages(pb.ListLanguagesRequest(page_token="%%%"), CONTEXT)
    assert caught.value.field == "page_token"
