"""Models as tensors, in the table beside their typed selves."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from meshwork.errors import Overloaded, Unavailable, Unimplemented
from meshwork.model_config import ModelConfig
from meshwork.router.v1 import router_pb2
from meshwork.serving.call import Call
from meshwork.serving.card import ModelDirectory
from meshwork.serving.engines.engine import Array
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.oip.inference import Inference, Inferred
from meshwork.serving.oip.signature import Given
from meshwork.serving.tensor_task import TensorTask
from tests.interop.tensor_service import Line
from tests.unit.contexts import FakeContext
from tests.unit.serving.test_models import write_card

TASKS = {name: f"tests.interop.tensor_service:{name.title()}" for name in ("line", "words")}


@pytest.fixture
async def table() -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    yield table
    await table.close()


@pytest.fixture
def inference(table: ModelTable) -> Inference:
    return Inference("nlp", "meshwork.nlp.v1.NlpService", table)


def config(folder: Path, task: str = "line", **settings: Any) -> ModelConfig:
    return ModelConfig(source=write_card(folder, "m", "1", task=task), **settings)


async def infer(inference: Inference, x: Array, call: Call | None = None) -> Inferred:
    given = Given("inputs[0]", "x", "FP32", x.shape, lambda datatype, shape: x)
    return await inference.infer("m", [given], (), call or Call(), large=False)


def row(*values: float) -> Array:
    return np.array([values], np.float32)


async def test_callers_share_a_batch_and_each_gets_its_own_rows(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    answers = await asyncio.gather(
        *(infer(inference, np.full((count, 1), count, np.float32)) for count in range(1, 5))
    )
    for count, answer in enumerate(answers, 1):
        assert answer.outputs["y"].tolist() == [[2 * count + 1]] * count
    assert max(answer.served_by.batch_size for answer in answers) > 1
    assert max(answer.outputs["rows"][0, 0] for answer in answers) > 4


async def test_requests_of_other_shapes_do_not_share_a_batch(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    wide, *narrow = await asyncio.gather(
        infer(inference, row(1, 2)), *(infer(inference, row(number)) for number in range(3))
    )
    assert [answer.outputs["y"].tolist() for answer in narrow] == [[[1]], [[3]], [[5]]]
    assert wide.outputs["rows"].tolist() == [[1]]
    assert wide.outputs["y"].tolist() == [[3, 5]]


async def test_tensors_and_typed_calls_take_turns_on_one_device(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    async with table.using("m", Call()) as loaded:
        assert loaded.raw is not None
        assert [worker.device for worker in loaded.raw.workers] == [
            worker.device for worker in loaded.workers
        ]
    raw = asyncio.create_task(infer(inference, row(1000)))
    await asyncio.sleep(0)
    typed = await table.run(Line, "Say", "m", ["x"], FakeContext())
    assert typed.outputs == ["x"]
    assert (await raw).outputs["y"].tolist() == [[2001]]


async def test_a_model_without_tensors_names_the_method_that_it_answers(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path, "words"))
    with pytest.raises(Unimplemented, match=r"call Say of meshwork\.nlp\.v1\.NlpService"):
        await infer(inference, row(1))
    assert (await inference.metadata("m", Call()))["inputs"] == []


async def test_a_tensor_call_loads_a_model_that_waits_for_its_first_caller(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path, load="demand"))
    assert inference.ready
    assert not inference.model_ready("m")
    assert (await infer(inference, row(1))).outputs["y"].tolist() == [[3]]
    assert inference.model_ready("m")


async def test_a_replica_that_drains_answers_and_says_that_it_is_not_ready(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    assert inference.ready
    inference.draining = True
    assert not inference.ready
    assert (await infer(inference, row(1))).outputs["y"].tolist() == [[3]]


async def test_unloading_waits_for_tensor_calls_and_lets_go_of_the_network(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    async with table.using("m", Call()) as loaded:
        assert loaded.raw is not None
        task = weakref.ref(loaded.raw.task)
        device = loaded.workers[0].device
    del loaded
    call = asyncio.create_task(infer(inference, row(1000)))
    await asyncio.sleep(0.05)
    await table.unload("m")
    assert (await call).outputs["y"].tolist() == [[2001]]
    del call
    gc.collect()
    assert task() is None
    assert device.wait_s() == 0
    assert [each.state for each in table.describe()] == [router_pb2.MODEL_STATE_UNLOADED]


async def test_a_call_that_cannot_be_answered_in_time_is_refused_at_the_door(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    await infer(inference, row(1000))  # teaches what a row costs
    busy = [asyncio.create_task(infer(inference, row(1000))) for _ in range(3)]
    await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    with pytest.raises(Overloaded) as caught:
        await infer(inference, row(1), Call(deadline=loop.time() + 0.05))
    assert caught.value.retry_after_s
    await asyncio.gather(*busy)


async def test_one_bad_row_fails_its_own_request_alone(
    table: ModelTable, inference: Inference, tmp_path: Path
) -> None:
    await table.add(config(tmp_path))
    outcomes = await asyncio.gather(
        infer(inference, row(1000)),
        infer(inference, row(5)),
        infer(inference, row(-1)),
        infer(inference, row(6)),
        return_exceptions=True,
    )
    good = [each.outputs["y"].tolist() for each in outcomes if isinstance(each, Inferred)]
    assert good == [[[2001]], [[11]], [[13]]]
    assert "should not hold -1" in str(outcomes[2])


async def test_a_network_that_is_served_as_tensors_only_has_one_queue(tmp_path: Path) -> None:
    tasks = {"sum": f"{__name__}:Sum"}
    table = ModelTable("nlp", "nlp-1", tasks, "cpu", LoadMeter())
    try:
        await table.add(config(tmp_path, "sum"))
        async with table.using("m", Call()) as loaded:
            assert loaded.tensors is loaded
        assert (await infer(Inference("nlp", "", table), row(1))).outputs["y"].tolist() == [[3]]
    finally:
        await table.close()


class Sum(TensorTask):
    """A network without a typed self."""

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        return cls(Line().tensors)

    def warm_up(self) -> None:
        return


async def test_a_model_on_two_slots_serves_tensors_on_both(tmp_path: Path) -> None:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu:0,cpu:1", LoadMeter())
    try:
        await table.add(config(tmp_path))
        inference = Inference("nlp", "", table)
        answers = await asyncio.gather(*(infer(inference, row(number)) for number in range(20)))
        assert [answer.outputs["y"].tolist() for answer in answers] == [[[2 * n + 1]] for n in range(20)]
        async with table.using("m", Call()) as loaded:
            assert loaded.raw is not None
            assert [worker.on for worker in loaded.raw.workers] == ["cpu:0", "cpu:1"]
    finally:
        await table.close()


async def test_who_waits_for_a_model_that_is_taken_away_is_told(
    table: ModelTable, inference: Inference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshwork.serving.lifecycle.UNLOAD_S", 0.01)
    await table.add(config(tmp_path))
    calls = [asyncio.create_task(infer(inference, row(1000))) for _ in range(2)]
    await asyncio.sleep(0.05)
    calls.append(asyncio.create_task(infer(inference, row(1))))
    await asyncio.sleep(0.01)
    await table.unload("m")
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(each, Unavailable) for each in outcomes)
    assert all(isinstance(each, Unavailable | Inferred) for each in outcomes)
