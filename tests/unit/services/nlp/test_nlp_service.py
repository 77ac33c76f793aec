from typing import Any

import numpy as np
import pytest

from meshwork.errors import InvalidArgument, ModelNotFound
from meshwork.nlp.v1 import nlp_pb2 as pb
from services.nlp.service import NlpService
from tests.unit.contexts import FakeContext

CALLER: Any = FakeContext()


async def embed(service: NlpService, **fields: Any) -> pb.EmbedResponse:
    return await service.Embed(pb.EmbedRequest(**fields), CALLER)


async def classify(service: NlpService, **fields: Any) -> pb.ClassifyTextResponse:
    return await service.ClassifyText(pb.ClassifyTextRequest(**fields), CALLER)


async def match(service: NlpService, **fields: Any) -> pb.MatchTextsResponse:
    return await service.MatchTexts(pb.MatchTextsRequest(**fields), CALLER)


async def test_embeddings_are_unit_vectors_in_the_requests_order(service: NlpService) -> None:
    texts = ["A cat sleeps on the warm windowsill all afternoon.", "Hello", "A kitten naps by the window."]
    response = await embed(service, texts=texts)
    vectors = np.array([each.values for each in response.embeddings])
    assert vectors.shape == (3, 384)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert vectors[0] @ vectors[2] > 0.6 > 0.3 > vectors[0] @ vectors[1]
    assert [each.token_count for each in response.embeddings][1] == 3
    assert (response.served_by.model, response.served_by.version) == ("minilm", "1")


async def test_a_text_beyond_the_models_length_is_cut_and_said_to_be(service: NlpService) -> None:
    response = await embed(service, texts=["word " * 300, "word " * 254])
    assert [each.token_count for each in response.embeddings] == [256, 256]
    assert [each.truncated for each in response.embeddings] == [True, False]


async def test_control_characters_and_rare_scripts_embed_as_any_text(service: NlpService) -> None:
    texts = ["a\x00b", "\x01\x02", "𓂀𓆣", "🙂" * 500, "\u202e\u200bx", "ܫܠܡܐ", "x" * 5000]
    response = await embed(service, texts=texts)
    for each in response.embeddings:
        assert abs(np.linalg.norm(each.values) - 1) < 1e-5
        assert each.token_count <= 256


async def test_a_text_is_sorted_under_the_label_it_is_about(service: NlpService) -> None:
    labels = ["cooking", "football", "astronomy"]
    response = await classify(service, text="The telescope found a new galaxy.", labels=labels)
    found = list(response.classifications)
    assert found[0].label == "astronomy"
    assert sorted(each.label for each in found) == sorted(labels)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert abs(sum(each.score for each in found) - 1) < 1e-5


async def test_a_label_that_looks_like_a_template_is_a_label(service: NlpService) -> None:
    response = await classify(service, text="hello", labels=["{label}", "{0} %s {x"])
    assert {each.label for each in response.classifications} == {"{label}", "{0} %s {x"}


async def test_candidates_are_ranked_by_meaning(service: NlpService) -> None:
    candidates = ["It rains in Bergen.", "Reset it under Account, Security.", "We ship to Norway."]
    response = await match(service, query="I forgot my password", candidates=candidates)
    assert response.matches[0].index == 1
    assert response.matches[0].text == candidates[1]
    assert {each.index for each in response.matches} == {0, 1, 2}
    assert [each.score for each in response.matches] == sorted(
        (e.score for e in response.matches), reverse=True
    )


async def test_candidates_equal_to_the_query_score_one(service: NlpService) -> None:
    response = await match(service, query="same", candidates=["same", "other", "same"], top_k=2)
    assert {each.index for each in response.matches} == {0, 2}
    assert all(0.999 < each.score <= 1 for each in response.matches)


async def test_more_matches_than_there_are_gives_all(service: NlpService) -> None:
    assert len((await match(service, query="a", candidates=["b", "c"], top_k=2**31 - 1)).matches) == 2


@pytest.mark.parametrize(
    ("method", "request_fields", "field"),
    [
        (embed, {"texts": []}, "texts"),
        (embed, {"texts": ["a"] * 1025}, "texts"),
        (embed, {"texts": ["fine", " \n"]}, "texts[1]"),
        (embed, {"texts": ["x" * 1_000_001]}, "texts[0]"),
        (classify, {"text": "", "labels": ["a", "b"]}, "text"),
        (classify, {"text": "x", "labels": []}, "labels"),
        (classify, {"text": "x", "labels": ["only"]}, "labels"),
        (classify, {"text": "x", "labels": [str(n) for n in range(257)]}, "labels"),
        (classify, {"text": "x", "labels": ["a", ""]}, "labels[1]"),
        (classify, {"text": "x", "labels": ["a", "b", "a"]}, "labels[2]"),
        (match, {"query": "", "candidates": ["a"]}, "query"),
        (match, {"query": "x", "candidates": []}, "candidates"),
        (match, {"query": "x", "candidates": ["a", ""]}, "candidates[1]"),
        (match, {"query": "x", "candidates": ["a"], "top_k": -1}, "top_k"),
    ],
)
async def test_a_wrong_field_is_named(
    service: NlpService, method: Any, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await method(service, **request_fields)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize("method", [embed, classify, match])
async def test_an_unknown_model_is_not_found_and_the_known_listed(service: NlpService, method: Any) -> None:
    request_fields = {
        embed: {"texts": ["a"]},
        classify: {"text": "a", "labels": ["b", "c"]},
        match: {"query": "a", "candidates": ["b"]},
    }[method]
    with pytest.raises(ModelNotFound, match="minilm@1"):
        await method(service, model="gpt", **request_fields)
