from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshwork.errors import MeshworkError
from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo
from tests.unit.serving.test_models import write_card

threads: set[str] = set()


class Quick(Echo):
    light = True

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        threads.add(threading.current_thread().name)
        return super().forward(batch)


class Slow(Quick):
    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        time.sleep(0.002)
        return super().forward(batch)


class Heavy(Quick):
    light = False


@pytest.mark.parametrize(("task", "on_loop"), [(Quick, True), (Slow, False), (Heavy, False)])
async def test_only_short_batches_of_light_tasks_run_on_the_loop(
    task: type[Echo], on_loop: bool, tmp_path: Path
) -> None:
    threads.clear()
    table = ModelTable("nlp", "nlp-1", {"echo": f"{__name__}:{task.__name__}"}, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "a", "1")))
    here = threading.current_thread().name
    for _ in range(1000 if on_loop else 20):
        await table.run(Echo, "Say", "", ["x"], FakeContext())
        if on_loop and here in threads:
            break
    assert (here in threads) == on_loop
    assert threads != {here}  # the first of all was measured on the device's thread
    await table.close()
