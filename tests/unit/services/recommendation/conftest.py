from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from meshwork.model_config import ModelConfig
from meshwork.server import ServiceContext
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.sources import open_directory
from meshwork.state.connect import connect
from meshwork.state.keys import Keys
from services.recommendation.__main__ import SPEC
from services.recommendation.service import RecommendationService
from services.recommendation.tasks.sequence import SequenceRecommender


@pytest.fixture(scope="package")
def recommender() -> SequenceRecommender:
    task = SequenceRecommender.load(open_directory("starter://sequence", "recommendation"), "cpu")
    task.warm_up()
    return task


@pytest.fixture(scope="package")
async def models() -> AsyncIterator[ModelTable]:
    table = ModelTable("recommendation", "recommendation-test", SPEC.tasks, "cpu", LoadMeter())
    await table.add(ModelConfig(source="starter://sequence"))
    yield table
    await table.close()


@pytest.fixture
def service(models: ModelTable, redis: Redis) -> RecommendationService:
    return RecommendationService(ServiceContext(models, redis, Keys()))


@pytest.fixture
async def cut_off(models: ModelTable) -> AsyncIterator[RecommendationService]:
    """A service whose Redis is away."""
    redis = connect("redis://127.0.0.1:1")
    yield RecommendationService(ServiceContext(models, redis, Keys()))
    await redis.aclose()
