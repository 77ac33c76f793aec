"""The example of a model of one's own, loaded and called as a replica does it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from services.vision.tasks.classify import ImageClassifier, ImageInput
from tests.unit.contexts import FakeContext

EXAMPLE = Path(__file__).parents[3] / "examples" / "colours"


@pytest.fixture(scope="module")
async def table() -> AsyncIterator[ModelTable]:
    table = ModelTable("vision", "vision-1", {}, "cpu", LoadMeter())
    await table.add(ModelConfig(source=str(EXAMPLE)))
    yield table
    await table.close()


def picture(*stripes: tuple[int, int, int]) -> ImageInput:
    image = Image.new("RGB", (20 * len(stripes), 30))
    for index, colour in enumerate(stripes):
        image.paste(colour, (20 * index, 0, 20 * index + 20, 30))
    content = io.BytesIO()
    image.save(content, "PNG")
    return ImageInput(content=content.getvalue(), top_k=2)


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((255, 0, 0), "red"),
        ((0, 90, 255), "blue"),
        ((10, 120, 20), "green"),
        ((250, 250, 245), "white"),
        ((100, 60, 20), "brown"),
        ((255, 160, 200), "pink"),
    ],
)
async def test_a_surface_of_one_colour_is_of_that_colour(
    table: ModelTable, colour: tuple[int, int, int], name: str
) -> None:
    answer = await table.run(ImageClassifier, "Classify", "colours", [picture(colour)], FakeContext())
    (scored,) = answer.outputs
    assert scored[0].label == name
    assert scored[0].score > 0.6


async def test_colours_count_by_the_surface_that_they_take(table: ModelTable) -> None:
    red, blue = (220, 20, 30), (30, 80, 220)
    answer = await table.run(ImageClassifier, "Classify", "", [picture(red, blue, blue, blue)], FakeContext())
    (first, second) = answer.outputs[0]
    assert (first.label, second.label) == ("blue", "red")
    assert first.score == pytest.approx(0.75, abs=0.05)


async def test_what_is_no_picture_is_refused(table: ModelTable) -> None:
    with pytest.raises(InvalidArgument, match=r"image\.content"):
        await table.run(
            ImageClassifier, "Classify", "", [ImageInput(content=b"text", top_k=1)], FakeContext()
        )
