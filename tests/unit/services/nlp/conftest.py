from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import torch

from meshwork.model_config import ModelConfig
from meshwork.server import ServiceContext
from meshwork.serving.card import ModelDirectory
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.sources import open_directory
from services.nlp.__main__ import SPEC
from services.nlp.service import NlpService
from services.nlp.tasks.sentence_encoder import SentenceEncoder

torch.set_num_threads(1)  # these networks are tiny: threads would only wait for each other


@pytest.fixture(scope="package")
def minilm() -> ModelDirectory:
    return open_directory("starter://minilm", "nlp")


@pytest.fixture(scope="package")
def encoder(minilm: ModelDirectory) -> Iterator[SentenceEncoder]:
    encoder = SentenceEncoder.load(minilm, "cpu")
    yield encoder
    encoder.close()


@pytest.fixture(scope="package")
async def service() -> AsyncIterator[NlpService]:
    table = ModelTable("nlp", "nlp-test", SPEC.tasks, "cpu", LoadMeter())
    await table.add(ModelConfig(source="starter://minilm"))
    stateless: Any = None  # this service keeps nothing in Redis
    yield NlpService(ServiceContext(table, stateless, stateless))
    await table.close()
