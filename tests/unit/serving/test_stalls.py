"""A device that does not come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from meshwork.errors import MeshworkError, Unavailable
from meshwork.model_config import ModelConfig
from meshwork.router.v1 import router_pb2
from meshwork.serving import device, lifecycle
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo
from tests.unit.serving.test_models import write_card

TASKS = {"sticky": "tests.unit.serving.test_stalls:Sticky", "echo": "tests.unit.serving.echo_task:Echo"}
READY, FAILED = router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_FAILED


class Sticky(Echo):
    """Is stuck while it is told to be, one item at a time."""

    max_batch_items = 1
    shares_device = False
    free: ClassVar[threading.Event] = threading.Event()

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        self.free.wait(30)
        return super().forward(batch)


@pytest.fixture
async def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[ModelTable]:
    monkeypatch.setattr(lifecycle, "LOOK_S", 0.01)
    monkeypatch.setattr(device, "_STALL_S", 0.1)
    monkeypatch.setattr(device, "_STALL_TIMES", 1.0)
    Sticky.free.set()
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1", task="sticky")))
    await table.add(ModelConfig(source=write_card(tmp_path, "b", "1")))
    yield table
    Sticky.free.set()
    await table.close()


async def say(table: ModelTable, model: str = "") -> list[str]:
    answer = await table.run(Echo, "Say", model, ["hello"], FakeContext())
    return answer.outputs


async def until_it_is(table: ModelTable, state: router_pb2.ModelState.ValueType) -> None:
    async with asyncio.timeout(10):
        while table.describe()[0].state != state:
            await asyncio.sleep(0.005)


async def test_what_waits_for_a_device_that_stalls_ends_so_that_it_is_made_again_elsewhere(
    table: ModelTable,
) -> None:
    usual = await say(table)
    Sticky.free.clear()
    begun = asyncio.create_task(say(table))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(say(table)) for _ in range(3)]
    await until_it_is(table, FAILED)
    for each in waiting:
        with pytest.raises(Unavailable, match="does not come back"):
            await each
    with pytest.raises(Unavailable) as refused:
        await say(table)
    assert refused.value.reason == "DEVICE_STALLED"
    assert "does not come back" in table.describe()[0].error
    assert await say(table, "b") == usual, "another device goes on"
    assert not begun.done(), "it may be the reason, so nobody else gets it"
    Sticky.free.set()
    assert await begun == usual
    await until_it_is(table, READY)
    assert table.describe()[0].error == ""
    assert await say(table) == usual


async def test_callers_who_name_no_model_are_not_answered_by_another_one_meanwhile(
    table: ModelTable, tmp_path: Path
) -> None:
    await say(table)
    Sticky.free.clear()
    begun = asyncio.create_task(say(table))
    await until_it_is(table, FAILED)
    await table.add(ModelConfig(source=write_card(tmp_path, "c", "1")))  # defaults are chosen anew
    with pytest.raises(Unavailable):
        await say(table)
    assert list(table.describe()[0].default_methods) == ["Say"]
    Sticky.free.set()
    await begun


async def test_a_first_batch_that_nothing_is_known_of_may_take_its_time(table: ModelTable) -> None:
    Sticky.free.clear()
    begun = asyncio.create_task(say(table))
    await asyncio.sleep(0.3)
    assert table.describe()[0].state == READY
    Sticky.free.set()
    await begun
