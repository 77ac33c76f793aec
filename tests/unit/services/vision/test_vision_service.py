import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from meshwork.errors import InvalidArgument, ModelNotFound
from meshwork.vision.v1 import vision_pb2 as pb
from services.vision.service import VisionService
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
        await classify(service, model="resnet", image=pb.Image(content=one_png))
