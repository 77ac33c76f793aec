from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from meshwork.process import run

SPARED = """
import gc
from meshwork.process import spare_the_collector
born = [[] for _ in range(1000)]
spare_the_collector()
assert gc.get_freeze_count() > 1000
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() == 1
"""


async def kind_of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def in_a_thread_of_its_own() -> str:
    return run(kind_of_loop())


async def test_a_process_runs_on_uvloop_and_without_it_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await asyncio.to_thread(in_a_thread_of_its_own)).startswith("uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert (await asyncio.to_thread(in_a_thread_of_its_own)).startswith("asyncio")


def test_what_lives_is_spared_and_new_garbage_is_still_found() -> None:
    subprocess.run([sys.executable, "-c", SPARED], check=True, timeout=60)
