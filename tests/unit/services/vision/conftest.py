import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image, ImageDraw

from meshwork.model_config import ModelConfig
from meshwork.server import ServiceContext
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.sources import open_directory
from services.vision.__main__ import SPEC
from services.vision.service import VisionService
from services.vision.tasks.digits import Digits


@pytest.fixture(scope="package")
def digits() -> Digits:
    return Digits.load(open_directory("starter://digits", "vision"), "cpu")


@pytest.fixture(scope="package")
async def service() -> AsyncIterator[VisionService]:
    table = ModelTable("vision", "vision-test", SPEC.tasks, "cpu", LoadMeter())
    await table.add(ModelConfig(source="starter://digits"))
    stateless: Any = None  # this service keeps nothing in Redis
    yield VisionService(ServiceContext(table, stateless, stateless))
    await table.close()


@pytest.fixture(scope="package")
def one() -> Image.Image:
    """A plain stroke, black on white: a one."""
    image = Image.new("RGB", (90, 120), "white")
    ImageDraw.Draw(image).line((46, 20, 42, 100), fill="black", width=12)
    return image


@pytest.fixture(scope="package")
def one_png(one: Image.Image) -> bytes:
    file = io.BytesIO()
    one.save(file, "PNG")
    return file.getvalue()
