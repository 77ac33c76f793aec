from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from meshwork.model_config import ModelConfig
from meshwork.rpc import Unobserved
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.oip.inference import Inference
from meshwork.serving.oip.listener import RestListener
from tests.unit.serving.test_models import write_card

TASKS = {"line": "tests.interop.tensor_service:Line"}


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "m", "1", task="line")))
    yield table
    await table.close()


def listener(table: ModelTable) -> RestListener:
    inference = Inference("nlp", "", table)
    return RestListener("127.0.0.1:0", 5.0, lambda kind: kind("nlp", inference, 1 << 20, Unobserved()))


def test_the_server_is_imported_for_the_first_connection_only() -> None:
    script = """
import asyncio, sys
import meshwork.server
from meshwork.serving.oip.listener import RestListener

async def main():
    rest = RestListener("127.0.0.1:0", 1.0, lambda kind: sys.exit("nobody came"))
    await rest.stop()

asyncio.run(main())
sys.exit("aiohttp" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


async def test_many_first_connections_are_all_answered(table: ModelTable) -> None:
    rest = listener(table)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{rest.port}") as session:

            async def ready() -> int:
                async with session.get("/v2/health/ready") as response:
                    return response.status

            assert await asyncio.gather(*(ready() for _ in range(20))) == [200] * 20
    finally:
        await rest.stop()


def body(value: float) -> str:
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}]})


async def test_requests_in_flight_are_answered_when_it_stops(table: ModelTable) -> None:
    rest = listener(table)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{rest.port}") as session:
        async with session.get("/v2/health/live") as response:
            assert response.status == 200
        posted = asyncio.ensure_future(session.post("/v2/models/m/infer", data=body(1000)))
        await asyncio.sleep(0.1)
        await rest.stop()
        answer = await (await posted).json()
        assert answer["outputs"][0]["data"] == [2001]
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("/v2/health/live")


async def test_a_caller_who_leaves_takes_its_work_out_of_the_queue(table: ModelTable) -> None:
    rest = listener(table)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{rest.port}") as session:
            first = asyncio.ensure_future(session.post("/v2/models/m/infer", data=body(1000)))
            await asyncio.sleep(0.1)
            second = asyncio.ensure_future(session.post("/v2/models/m/infer", data=body(1)))
            (entry,) = table.entries
            async with asyncio.timeout(10):
                while entry.uses < 2:
                    await asyncio.sleep(0.005)
                second.cancel()
                while entry.uses == 2:
                    await asyncio.sleep(0.005)
            assert not first.done()
            assert (await first).status == 200
    finally:
        await rest.stop()


async def test_an_address_that_is_taken_is_refused(table: ModelTable) -> None:
    rest = listener(table)
    try:
        with pytest.raises(OSError, match="in use"):
            RestListener(f"127.0.0.1:{rest.port}", 1.0, lambda kind: pytest.fail("nobody came"))
    finally:
        await rest.stop()


async def test_what_the_runtime_counts_is_there_for_prometheus(table: ModelTable) -> None:
    rest = listener(table)
    try:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{rest.port}") as session,
            session.get("/metrics") as response,
        ):
            text = await response.text()
    finally:
        await rest.stop()
    assert response.status == 200
    assert 'meshwork_model_loads_total{model="m",outcome="ready"}' in text
    assert "meshwork_event_loop_lag_seconds_bucket" in text
