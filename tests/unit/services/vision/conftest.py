import io
from collections.abc import AsyncIterator
from pathlib import Path
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
from tests.unit.services.vision.checkpoints import CHECKPOINTS


@pytest.fixture(scope="package")
def digits() -> Digits:
    return Digits.load(open_directory("starter://digits", "vision"), "cpu")


@pytest.fixture(scope="package")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny Hugging Face directories by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, save in CHECKPOINTS.items():
        save(folder / name)
    return {name: folder / name for name in CHECKPOINTS}


@pytest.fixture(scope="package")
async def table(checkpoints: dict[str, Path]) -> AsyncIterator[ModelTable]:
    table = ModelTable(
        "vision", "vision-test", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures
    )
    await table.add(ModelConfig(source="starter://digits"))
    for folder in checkpoints.values():
        await table.add(ModelConfig(source=str(folder)))
    yield table
    await table.close()


@pytest.fixture(scope="package")
def service(table: ModelTable) -> VisionService:
    stateless: Any = None  # this service keeps nothing in Redis
    return VisionService(ServiceContext(table, stateless, stateless))


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
