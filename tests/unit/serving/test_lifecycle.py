from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from meshwork.errors import DeadlineExceeded, FailedPrecondition, ModelNotFound, Overloaded
from meshwork.model_config import ModelConfig
from meshwork.router.v1 import router_pb2
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo
from tests.unit.serving.heavy_task import MEGABYTES, Heavy
from tests.unit.serving.test_models import write_card

TASKS = {"heavy": "tests.unit.serving.heavy_task:Heavy", "echo": "tests.unit.serving.echo_task:Echo"}
ANYONE = FakeContext()


@pytest.fixture(autouse=True)
def gate() -> Iterator[None]:
    Heavy.gate.set()
    Heavy.loads = 0
    yield
    Heavy.gate.set()


@pytest.fixture
async def table() -> AsyncIterator[ModelTable]:
    """Room for two heavy models."""
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter(), memory_bytes=int(2.5 * MEGABYTES) << 20)
    yield table
    await table.close()


def heavy(folder: Path, name: str, **settings: Any) -> ModelConfig:
    return ModelConfig(source=write_card(folder, name, "1", task="heavy"), name=name, **settings)


def states(table: ModelTable) -> dict[str, str]:
    return {
        model.name: router_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
        for model in table.describe()
    }


async def say(table: ModelTable, model: str, context: FakeContext = ANYONE) -> str:
    return (await table.run(Heavy, "Say", model, ["x"], context)).outputs[0]


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / (1 << 20)


async def test_a_model_that_loads_on_demand_is_loaded_by_its_first_call(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(heavy(tmp_path, "a", load="demand"))
    assert states(table) == {"a": "unloaded"}
    assert await say(table, "a") == "cpu"
    assert states(table) == {"a": "ready"}


async def test_callers_who_come_while_a_model_loads_wait_for_that_load(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(heavy(tmp_path, "a", load="demand"))
    Heavy.gate.clear()
    calls = [asyncio.create_task(say(table, "a")) for _ in range(5)]
    await asyncio.sleep(0.05)
    Heavy.gate.set()
    assert await asyncio.gather(*calls) == ["cpu"] * 5
    assert Heavy.loads == 1


async def test_a_caller_whose_deadline_is_too_near_for_the_load_is_told_when_to_come_back(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(heavy(tmp_path, "a", load="demand"))
    with pytest.raises(Overloaded) as refusal:
        await say(table, "a", FakeContext(remaining_s=0.5))
    assert refusal.value.retry_after_s
    assert await say(table, "a") == "cpu"  # the load went on
    assert Heavy.loads == 1


async def test_a_caller_waits_for_a_load_no_longer_than_its_deadline(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(heavy(tmp_path, "a"))
    await table.unload("a")  # its load is known to be short
    Heavy.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await say(table, "a", FakeContext(remaining_s=1.0))
    Heavy.gate.set()


async def test_loading_does_not_stall_what_is_served(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "echo", "1")))
    Heavy.gate.clear()
    adding = asyncio.create_task(table.add(heavy(tmp_path, "a")))
    while states(table).get("a") != "loading":
        await asyncio.sleep(0.005)
    answers = [await table.run(Echo, "Say", "echo", ["hello"], ANYONE) for _ in range(20)]
    assert {answer.outputs[0] for answer in answers} == {"echo hello"}
    assert not adding.done()
    Heavy.gate.set()
    await adding


async def test_the_least_recently_used_model_makes_room_for_another(
    table: ModelTable, tmp_path: Path
) -> None:
    for name in "ab":
        await table.add(heavy(tmp_path, name))
    await say(table, "a")
    await table.add(heavy(tmp_path, "c"))
    assert states(table) == {"a": "ready", "b": "unloaded", "c": "ready"}
    assert await say(table, "b") == "cpu"
    assert states(table) == {"a": "unloaded", "b": "ready", "c": "ready"}


async def test_a_model_that_can_never_fit_fails_and_evicts_nobody(tmp_path: Path) -> None:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter(), memory_bytes=1 << 20)
    await table.add(ModelConfig(source=write_card(tmp_path, "echo", "1")))
    source = write_card(tmp_path, "a", "1", task="heavy")
    (Path(source) / "model.safetensors").write_bytes(bytes(2 << 20))
    await table.add(ModelConfig(source=source))
    assert states(table) == {"echo": "ready", "a": "failed"}
    assert "MB" in table.describe()[1].error
    await table.close()


async def test_unloading_gives_the_memory_back(table: ModelTable, tmp_path: Path) -> None:
    await table.add(heavy(tmp_path, "a"))
    await say(table, "a")
    with_it = resident_mb()
    await table.unload("a")
    assert with_it - resident_mb() > 0.9 * MEGABYTES
    assert table.describe()[0].memory_bytes == 0


async def test_loading_and_unloading_again_and_again_keeps_nothing(table: ModelTable, tmp_path: Path) -> None:
    await table.add(heavy(tmp_path, "a"))
    await table.unload("a")
    before = resident_mb()
    for _ in range(3):
        await table.load("a")
        await table.unload("a")
    assert resident_mb() - before < 0.5 * MEGABYTES


async def test_unloading_waits_for_the_calls_in_flight(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "echo", "1")))
    echo = (await table.acquire(Echo, "Say", "echo", ANYONE)).task
    echo.gate.clear()
    call = asyncio.create_task(table.run(Echo, "Say", "echo", ["slow"], ANYONE))
    await asyncio.to_thread(echo.began.wait, 10)
    unloading = asyncio.create_task(table.unload("echo"))
    await asyncio.sleep(0.05)
    assert not unloading.done()
    assert not echo.closed
    echo.gate.set()
    assert (await call).outputs == ["echo slow"]
    await unloading
    assert echo.closed


async def test_a_removed_model_is_unknown_and_may_be_added_again(table: ModelTable, tmp_path: Path) -> None:
    config = heavy(tmp_path, "a")
    await table.add(config)
    await table.remove("a", "1")
    assert table.describe() == []
    with pytest.raises(ModelNotFound):
        await say(table, "a")
    await table.add(config)
    assert await say(table, "a") == "cpu"


async def test_a_model_that_cannot_be_loaded_says_why_until_it_can(table: ModelTable, tmp_path: Path) -> None:
    await table.add(heavy(tmp_path, "a", parameters={"broken": True}))
    assert states(table) == {"a": "failed"}
    with pytest.raises(FailedPrecondition, match="weights are broken"):
        await say(table, "a")
    with pytest.raises(FailedPrecondition, match="weights are broken"):
        await table.load("a")


async def test_one_model_runs_in_parallel_on_several_devices(table: ModelTable, tmp_path: Path) -> None:
    source = write_card(tmp_path, "echo", "1")
    await table.add(ModelConfig(source=source, device="cpu:0,cpu:1"))
    loaded = await table.acquire(Echo, "Say", "echo", ANYONE)
    tasks: list[Any] = [worker.task for worker in loaded.workers]
    for task in tasks:
        task.gate.clear()
    calls = [asyncio.create_task(table.run(Echo, "Say", "echo", [str(n)], ANYONE)) for n in range(20)]
    for task in tasks:  # both are at work at the same time
        assert await asyncio.to_thread(task.began.wait, 10)
    for task in tasks:
        task.gate.set()
    answers = await asyncio.gather(*calls)
    assert [answer.outputs for answer in answers] == [[f"echo {n}"] for n in range(20)]


async def test_models_are_spread_over_the_devices_that_they_name(table: ModelTable, tmp_path: Path) -> None:
    await table.add(heavy(tmp_path, "a", device="cpu:0"))
    await table.add(heavy(tmp_path, "b", device="cpu:1"))
    assert [await say(table, name) for name in "ab"] == ["cpu:0", "cpu:1"]
