from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from meshwork.errors import FailedPrecondition, InvalidArgument, MeshworkError, ModelNotFound
from meshwork.model_config import ModelConfig
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo, Loud

TASKS = {
    "echo": "tests.unit.serving.echo_task:Echo",
    "loud": "tests.unit.serving.echo_task:Loud",
    "steady": "tests.unit.serving.test_models:Steady",
}


class Steady(Echo):
    """Needs 3 ms an item, one item at a time."""

    max_batch_items = 1

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        time.sleep(0.003)
        return super().forward(batch)


def write_card(folder: Path, name: str, version: str, methods: str = "[Say]", task: str = "echo") -> str:
    path = folder / f"{name}-{version}"
    path.mkdir()
    (path / "card.yaml").write_text(
        f'name: {name}\nversion: "{version}"\nservice: nlp\ntask: {task}\nmethods: {methods}\nlicence: MIT\n'
    )
    return str(path)


@pytest.fixture
async def table() -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    yield table
    await table.close()


async def test_names_versions_and_defaults_find_their_model(table: ModelTable, tmp_path: Path) -> None:
    for name, version in [("a", "1"), ("b", "2"), ("b", "10")]:
        await table.add(ModelConfig(source=write_card(tmp_path, name, version)))
    assert (await table.acquire(Echo, "Say", "", FakeContext())).card.id == "a@1"
    assert (await table.acquire(Echo, "Say", "b", FakeContext())).card.id == "b@10"
    assert (await table.acquire(Echo, "Say", "b@2", FakeContext())).card.id == "b@2"


async def test_the_model_marked_default_answers_callers_who_name_none(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    await table.add(ModelConfig(source=write_card(tmp_path, "b", "1"), default=True))
    assert (await table.acquire(Echo, "Say", "", FakeContext())).card.id == "b@1"
    assert [list(model.default_methods) for model in table.describe()] == [[], ["Say"]]


async def test_where_the_default_is_of_another_kind_the_first_that_fits_answers(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    with pytest.raises(FailedPrecondition, match="no model that answers Say"):
        await table.acquire(Loud, "Say", "", FakeContext())
    await table.add(ModelConfig(source=write_card(tmp_path, "b", "1", methods="[Sing]", task="loud")))
    await table.add(ModelConfig(source=write_card(tmp_path, "c", "1", task="loud")))
    assert (await table.acquire(Loud, "Say", "", FakeContext())).card.id == "c@1"
    assert (await table.acquire(Echo, "Say", "", FakeContext())).card.id == "a@1"


async def test_an_unknown_model_is_not_found_and_the_error_lists_those_that_exist(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    with pytest.raises(ModelNotFound, match="a@1"):
        (await table.acquire(Echo, "Say", "zebra", FakeContext()))


async def test_a_model_that_does_not_answer_the_method_is_an_invalid_argument(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    await table.add(ModelConfig(source=write_card(tmp_path, "b", "1", methods="[Sing]")))
    with pytest.raises(InvalidArgument, match="a@1") as error:
        (await table.acquire(Echo, "Say", "b", FakeContext()))
    assert error.value.field == "model"
    with pytest.raises(FailedPrecondition):
        (await table.acquire(Echo, "Dance", "", FakeContext()))


@pytest.mark.parametrize("task", ["nosuch", "echo"])
async def test_a_model_that_cannot_be_loaded_is_described_and_hurts_no_other(
    table: ModelTable, tmp_path: Path, task: str
) -> None:
    broken = write_card(tmp_path, "broken", "1", methods="[]" if task == "echo" else "[Say]", task=task)
    await table.add(ModelConfig(source=broken))
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    first, second = table.describe()
    assert first.state == router_pb2.MODEL_STATE_FAILED
    assert first.error
    assert second.state == router_pb2.MODEL_STATE_READY


async def test_a_second_model_of_the_same_name_and_version_is_refused(
    table: ModelTable, tmp_path: Path
) -> None:
    first = write_card(tmp_path, "a", "1")
    (tmp_path / "copy").mkdir()
    await table.add(ModelConfig(source=first))
    await table.add(ModelConfig(source=write_card(tmp_path / "copy", "a", "1")))
    states = [model.state for model in table.describe()]
    assert states == [router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_FAILED]


async def test_outputs_come_in_the_order_of_the_inputs(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    answer = await table.run(Echo, "Say", "", [str(n) for n in range(50)], FakeContext())
    assert answer.outputs == [f"echo {n}" for n in range(50)]
    assert answer.served_by.model == "a"
    assert answer.served_by.replica == "nlp-1"
    assert answer.served_by.batch_size > 1


async def test_the_first_input_that_fails_names_the_error(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    with pytest.raises(InvalidArgument):
        await table.run(Echo, "Say", "", ["fine", "unreadable"], FakeContext())
    others = await asyncio.gather(
        table.run(Echo, "Say", "", ["fine"], FakeContext()),
        table.run(Echo, "Say", "", ["bad"], FakeContext()),
        return_exceptions=True,
    )
    assert not isinstance(others[0], BaseException)
    assert others[0].outputs == ["echo fine"]
    assert isinstance(others[1], InvalidArgument)


async def test_closing_closes_the_models(tmp_path: Path) -> None:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    echo = (await table.acquire(Echo, "Say", "", FakeContext())).task
    await table.close()
    assert echo.closed


def test_versions_are_ordered_as_people_count() -> None:
    versions = ["10", "2", "1.10", "1.2", "1"]
    assert sorted(versions, key=version_order) == ["1", "1.2", "1.10", "2", "10"]


async def test_the_lease_tells_what_the_replica_can_do_once_it_has_answered(
    table: ModelTable, tmp_path: Path
) -> None:
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1", task="steady")))
    assert (table.describe()[0].item_ms, table.describe()[0].capacity_rps) == (0, 0)
    for _ in range(5):
        await table.run(Steady, "Say", "", ["x", "y"], FakeContext())
    model = table.describe()[0]
    assert 2.0 < model.item_ms < 50.0
    assert model.capacity_rps * 2 == pytest.approx(1000 / model.item_ms, rel=0.3)
