import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from meshwork.errors import InvalidArgument, ModelNotFound
from meshwork.serving.models import ModelTable
from meshwork.vision.v1 import vision_pb2 as pb
from services.vision.phrases import PhraseMemory
from services.vision.service import VisionService
from services.vision.tasks.embed import ImageEmbedder, ImageToEmbed, TextToEmbed
from tests.unit.contexts import FakeContext

SAMPLES = Path(__file__).resolve().parents[4] / "samples"


CALLER: Any = FakeContext()


async def classify(service: VisionService, **fields: Any) -> pb.ClassifyResponse:
    return await service.Classify(pb.ClassifyRequest(**fields), CALLER)


@pytest.mark.parametrize(("name", "digit"), [("three", "3"), ("five", "5"), ("seven", "7")])
async def test_the_samples_are_read(service: VisionService, name: str, digit: str) -> None:
    content = (SAMPLES / f"{name}.png").read_bytes()
    response = await classify(service, image=pb.Image(content=content))
    assert response.classifications[0].label == digit
    assert response.classifications[0].score > 0.5
    assert (response.served_by.model, response.served_by.version) == ("digits", "1")


async def test_classes_come_likeliest_first_five_unless_told(service: VisionService, one_png: bytes) -> None:
    for top_k, expected in ((0, 5), (1, 1), (10, 10), (1000, 10)):
        response = await classify(service, image=pb.Image(content=one_png), top_k=top_k)
        scores = [each.score for each in response.classifications]
        assert len(scores) == expected
        assert scores == sorted(scores, reverse=True)
        assert 0 <= scores[-1] <= scores[0] <= 1
        assert sum(scores) <= 1 + 1e-5
        assert response.classifications[0].label == "1"


async def test_a_data_uri_is_as_good_as_bytes(service: VisionService, one_png: bytes) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(one_png).decode()}"
    by_uri = await classify(service, image=pb.Image(uri=uri))
    by_bytes = await classify(service, image=pb.Image(content=one_png))
    assert list(by_uri.classifications) == list(by_bytes.classifications)


def even_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "image"),
        ({"image": pb.Image()}, "image"),
        ({"image": pb.Image(content=b"")}, "image.content"),
        ({"image": pb.Image(content=b"\x00\x01no image")}, "image.content"),
        ({"image": pb.Image(content=even_png())}, "image.content"),
        ({"image": pb.Image(uri="")}, "image.uri"),
        ({"image": pb.Image(uri="https://example.org/seven.png")}, "image.uri"),
        ({"image": pb.Image(uri="data:image/png;base64,%%%")}, "image.uri"),
        ({"image": pb.Image(uri="data:image/png;base64,AAAA")}, "image.uri"),
        ({"image": pb.Image(content=even_png()), "top_k": -1}, "top_k"),
        ({"image": pb.Image(content=even_png()), "top_k": 1001}, "top_k"),
    ],
)
async def test_a_wrong_field_is_named(
    service: VisionService, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await classify(service, **request_fields)
    assert caught.value.field == field
    assert caught.value.remedy


async def test_an_unknown_model_is_not_found_the_known_listed(service: VisionService, one_png: bytes) -> None:
    with pytest.raises(ModelNotFound, match="digits@1"):
        await classify(service, model="zebra", image=pb.Image(content=one_png))


@pytest.mark.parametrize(
    ("labels", "field", "cause"),
    [
        (["cat"], "labels", "2 to 256"),
        ([f"label {index}" for index in range(257)], "labels", "2 to 256"),
        (["cat", " "], "labels[1]", "empty"),
        (["cat", "dog", "cat"], "labels[2]", r"labels\[0\]"),
        (["cat", "dog " * 100], "labels[1]", "40 tokens"),
        (["cat", "d" * 1001], "labels[1]", "1000 characters"),
    ],
)
async def test_a_wrong_label_is_named(
    service: VisionService, one_png: bytes, labels: list[str], field: str, cause: str
) -> None:
    with pytest.raises(InvalidArgument, match=cause) as caught:
        await classify(service, model="clip", image=pb.Image(content=one_png), labels=labels)
    assert caught.value.field == field


async def test_labels_are_for_models_that_take_any(service: VisionService, one_png: bytes) -> None:
    image = pb.Image(content=one_png)
    with pytest.raises(InvalidArgument, match="digits@1 knows its own classes") as caught:
        await classify(service, model="digits", image=image, labels=["one", "two"])
    assert caught.value.field == "labels"
    with pytest.raises(InvalidArgument, match="clip@1 has no classes of its own") as caught:
        await classify(service, model="clip", image=image)
    assert caught.value.field == "labels"
    for labels, model in (([], "digits"), (["one", "two"], "clip")):  # whoever names no model is understood
        response = await classify(service, image=image, labels=labels)
        assert response.served_by.model == model


async def test_labels_that_are_known_are_not_read_again(
    service: VisionService, table: ModelTable, one_png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = (await table.acquire(ImageEmbedder, "Classify", "clip", CALLER)).task
    read: list[str] = []
    preprocess = task.preprocess

    def recorded(request: ImageToEmbed | TextToEmbed) -> Any:
        read.extend([request.text] if isinstance(request, TextToEmbed) else [])
        return preprocess(request)

    monkeypatch.setattr(task, "preprocess", recorded)
    first, again = [
        await classify(service, image=pb.Image(content=one_png), labels=labels, top_k=1)
        for labels in (["seen here", "and this one"], ["and this one", "seen here"])
    ]
    assert sorted(read) == ["This is a photo of and this one.", "This is a photo of seen here."]
    assert len(first.classifications) == 1
    assert again.classifications[0].label == first.classifications[0].label
    assert again.classifications[0].score == pytest.approx(first.classifications[0].score, abs=1e-5)


def test_the_phrase_that_nobody_asked_for_longest_is_forgotten_first() -> None:
    memory = PhraseMemory(most=2)
    vectors = {phrase: np.full(3, index, np.float32) for index, phrase in enumerate(["a", "b", "c"])}
    memory.keep("m@1", "a", vectors["a"])
    memory.keep("m@1", "b", vectors["b"])
    assert set(memory.known("m@1", ["a"])) == {"a"}
    memory.keep("m@1", "c", vectors["c"])
    assert set(memory.known("m@1", ["a", "b", "c"])) == {"a", "c"}
    assert memory.known("m@2", ["a"]) == {}


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "image"),
        ({"image": pb.Image(content=b"GIF89a")}, "image.content"),
        ({"image": pb.Image(content=even_png()), "min_score": -0.1}, "min_score"),
        ({"image": pb.Image(content=even_png()), "min_score": 1.5}, "min_score"),
        ({"image": pb.Image(content=even_png()), "min_score": math.nan}, "min_score"),
        ({"image": pb.Image(content=even_png()), "max_results": -1}, "max_results"),
        ({"image": pb.Image(content=even_png()), "max_results": 1001}, "max_results"),
        ({"image": pb.Image(content=even_png()), "model": "digits"}, "model"),
    ],
)
async def test_a_wrong_field_of_detect_is_named(
    service: VisionService, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.Detect(pb.DetectRequest(**request_fields), CALLER)
    assert caught.value.field == field
    assert caught.value.remedy


async def test_objects_come_surest_first_and_no_more_than_asked(
    service: VisionService, one_png: bytes
) -> None:
    request = pb.DetectRequest(image=pb.Image(content=one_png), min_score=0.001)
    every = (await service.Detect(request, CALLER)).detections
    scores = [each.score for each in every]
    assert len(every) > 3
    assert scores == sorted(scores, reverse=True)
    request.max_results = 2
    assert list((await service.Detect(request, CALLER)).detections) == list(every[:2])
    request.min_score = scores[1]
    assert len((await service.Detect(request, CALLER)).detections) == 1


async def test_images_and_texts_are_embedded_in_the_order_given(
    service: VisionService, one_png: bytes
) -> None:
    images = [pb.Image(content=one_png), pb.Image(content=even_png())]
    both = await service.EmbedImage(
        pb.EmbedImageRequest(images=images, texts=["a cat", "dog " * 100]), CALLER
    )
    assert [each.truncated for each in both.text_embeddings] == [False, True]
    for each in (*both.image_embeddings, *both.text_embeddings):
        assert sum(value * value for value in each.values) == pytest.approx(1, abs=1e-4)
    turned = await service.EmbedImage(pb.EmbedImageRequest(images=images[::-1]), CALLER)
    for one, other in zip(both.image_embeddings, reversed(turned.image_embeddings), strict=True):
        assert list(one.values) == pytest.approx(list(other.values), abs=1e-5)
    assert not turned.text_embeddings


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "images"),
        ({"texts": ["a", ""]}, "texts[1]"),
        ({"texts": ["a"] * 1025}, "texts"),
        ({"images": [pb.Image(content=even_png())] * 65}, "images"),
        ({"images": [pb.Image(content=even_png()), pb.Image()]}, "images[1]"),
        ({"images": [pb.Image(content=even_png()), pb.Image(content=b"no")]}, "images[1].content"),
    ],
)
async def test_a_wrong_field_of_embed_image_is_named(
    service: VisionService, request_fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.EmbedImage(pb.EmbedImageRequest(**request_fields), CALLER)
    assert caught.value.field == field
    assert caught.value.remedy
