from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from benchmarks.serve_vector import CARD
from benchmarks.vector.as_done import as_done
from benchmarks.vector.contract import SERVICE, PredictResponse
from benchmarks.vector.service import SPEC, VectorService
from benchmarks.vector.wires import Predict, PredictMany
from meshwork.errors import Overloaded
from meshwork.front import make_server
from meshwork.model_config import ModelConfig
from meshwork.rpc import add_servicer
from meshwork.server import ServiceContext
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.state.keys import Keys

VECTORS = np.random.default_rng(3).standard_normal((500, 64)).astype(np.float32)
WEIGHT = np.random.default_rng(4).standard_normal((64, 8)).astype(np.float32)


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    (tmp_path / "card.yaml").write_text(CARD)
    np.save(tmp_path / "weight.npy", WEIGHT)
    table = ModelTable(SPEC.name, "vector-1", SPEC.tasks, "cpu", LoadMeter())
    await table.add(ModelConfig(source=str(tmp_path)))
    server = make_server()
    add_servicer(server, SERVICE, VectorService(ServiceContext(table, Redis(), Keys())))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)
    await table.close()


@pytest.mark.parametrize("kind", [Predict, PredictMany])
async def test_each_caller_gets_the_product_of_its_own_vector(address: str, kind: type[Predict]) -> None:
    wire = kind("vector", address)
    async with wire.connect(16) as calls:
        raws = await asyncio.gather(
            *(calls[index % 16](wire.encode(vector)) for index, vector in enumerate(VECTORS))
        )
    np.testing.assert_allclose([wire.decode(raw) for raw in raws], VECTORS @ WEIGHT, atol=1e-4)
    assert {PredictResponse.FromString(raw).served_by.model for raw in raws} == {"product"}


async def test_a_stream_works_on_so_many_at_a_time_and_ends_with_the_first_error() -> None:
    at_work: set[int] = set()
    most: list[int] = []

    async def numbers() -> AsyncIterator[range]:
        yield range(10)
        yield range(10, 20)

    async def answer(number: int) -> int:
        at_work.add(number)
        most.append(len(at_work))
        await asyncio.sleep(0)
        at_work.remove(number)
        if number == 15:
            raise Overloaded("enough", retry_after_s=1)
        return number

    seen: list[int] = []
    with pytest.raises(Overloaded):
        async for bundle in as_done(numbers(), lambda message: message, answer, 4):
            seen += bundle
    assert max(most) == 4
    assert set(range(10)) <= set(seen) <= set(range(20)) - {15}
