import os
import time
from pathlib import Path

import pytest

from meshwork.router.v1 import router_pb2
from services.router.memory import MAX_AGE_S, Memory

REPLICAS = {name: router_pb2.Replica(name=name, address=f"{name}:1") for name in ("a", "b")}


def test_what_was_kept_is_recalled_by_the_next_router_of_that_mesh(tmp_path: Path) -> None:
    Memory(tmp_path, "x/../y").keep(REPLICAS)
    assert Memory(tmp_path, "x/../y").recall() == REPLICAS
    assert Memory(tmp_path, "z").recall() == {}
    assert len(list(tmp_path.iterdir())) == 1


def test_what_changed_since_it_was_kept_is_kept_again_and_the_rest_with_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "m")
    memory.keep(REPLICAS)
    moved = {"a": router_pb2.Replica(name="a", address="b:2"), "c": router_pb2.Replica(name="c")}
    memory.keep({**REPLICAS, **moved})
    assert memory.recall() == {**REPLICAS, **moved}
    memory.keep(moved)
    assert memory.recall() == moved


def test_what_is_old_is_not_recalled_unless_it_was_seen_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "m")
    memory.keep(REPLICAS)
    (file,) = tmp_path.iterdir()
    for offset_s in (-MAX_AGE_S - 5, 3600.0):
        os.utime(file, (time.time() + offset_s,) * 2)
        assert memory.recall() == {}
    memory.keep(REPLICAS)
    assert memory.recall() == REPLICAS


@pytest.mark.parametrize("data", [b"", b"\xff" * 9])
def test_a_file_that_says_nothing_is_no_reason_to_stop(tmp_path: Path, data: bytes) -> None:
    memory = Memory(tmp_path, "m")
    memory.keep(REPLICAS)
    next(tmp_path.iterdir()).write_bytes(data)
    assert memory.recall() == {}


def test_a_folder_that_can_not_be_written_to_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(tmp_path / "missing", "m")
    memory.keep(REPLICAS)
    assert "can't be written down" in caplog.text
    assert memory.recall() == {}
