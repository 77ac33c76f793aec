"""What a replica counts of its calls, by model: run through a table with a real model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from meshwork.errors import InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.serving import windows
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.windows import Windows
from meshwork.state.keys import Keys
from meshwork.state.reports import MODELS, Report, Reports
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo
from tests.unit.serving.test_models import write_card


class Sure(Echo):
    """Is 0.75 sure of what it says."""

    def observed(self, out: str) -> tuple[float, str] | None:
        return 0.75, out


class Kept(Reports):
    """Keeps what it wrote, too."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, Keys(mesh="test"))
        self.put_so_far: list[Report] = []

    async def put(self, replica: str, report: Report) -> None:
        await super().put(replica, report)
        self.put_so_far.append((await self.all())[replica])


async def test_calls_errors_and_answers_of_a_model_are_counted_and_reported(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ModelTable("nlp", "nlp-1", {"echo": f"{__name__}:Sure"}, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    await table.run(Sure, "Say", "a", ["hello", "hello"], FakeContext())
    with pytest.raises(InvalidArgument):
        await table.run(Sure, "Say", "a", ["unreadable"], FakeContext())
    with pytest.raises(RuntimeError):
        await table.run(Sure, "Say", "a", ["break"], FakeContext())
    monkeypatch.setattr(windows, "PERIOD_S", 0.01)
    reports = Kept(redis)
    running = asyncio.create_task(table.windows.run(reports, "nlp-1"))
    while not reports.put_so_far:
        await asyncio.sleep(0.01)
    running.cancel()
    await table.close()
    figures = reports.put_so_far[0].models["a@1"]
    assert (figures.calls, figures.errors, figures.timed) == (3, 1, 1)
    assert (figures.judged, figures.confidence, sum(figures.labels.values())) == (2, 1.5, 2)
    assert figures.quantile_ms(0.5) > 0


def test_windows_follow_each_other_and_are_bounded() -> None:
    counted = Windows()
    for number in range(2 * MODELS):
        counted.failed(f"model-{number}@1", InvalidArgument("is wrong", field="text"))
    first, second = counted.take(), counted.take()
    assert len(first.models) == MODELS
    assert not second.models
    assert first.window != second.window
