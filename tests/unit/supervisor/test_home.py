from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from meshwork.cli import start
from meshwork.errors import FailedPrecondition
from meshwork.supervisor import commands
from meshwork.supervisor.home import Home, MeshRecord


def record(pid: int, state: str = "ready") -> MeshRecord:
    return MeshRecord(
        name="default",
        pid=pid,
        state=state,
        reason="",
        gateway="127.0.0.1:1",
        router="127.0.0.1:2",
        redis_url="",
        config="{}",
    )


def test_a_home_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FailedPrecondition, match="MESHWORK_HOME"), Home(file / "home").locked():
        pass


def test_only_one_of_many_at_once_holds_the_lock_however_often_it_changes_hands(tmp_path: Path) -> None:
    home, holders, most = Home(tmp_path), 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal holders, most
        for _ in range(20):
            try:
                with home.locked():
                    with guard:
                        holders += 1
                        most = max(most, holders)
                    time.sleep(0)
                    with guard:
                        holders -= 1
            except FailedPrecondition:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_held_lock_is_refused_and_shows_who_runs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        home.write(record(os.getpid()))
        assert home.running() == record(os.getpid())
        with pytest.raises(FailedPrecondition, match=str(os.getpid())), home.locked():
            pass
    assert home.running() is None


async def test_the_record_of_a_mesh_that_was_killed_is_not_taken_for_the_one_that_starts(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.make()
    home.write(record(pid=1))
    looks = iter([False, False, True])
    assert await start.until_ready(home, 2, lambda: next(looks)) is None
    home.write(replace(record(pid=2)))
    assert await start.until_ready(home, 2, lambda: False) == record(pid=2)


def test_a_log_can_be_opened_after_somebody_removed_the_folder(tmp_path: Path) -> None:
    os.close(Home(tmp_path).open_log("worker"))
    assert Home(tmp_path).log("worker").exists()


def test_a_home_of_any_name_is_written_for_valkey_as_it_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / 'with space, é, "quotes" and \\'
    folder.mkdir()
    commands.valkey(1, "secret", folder)
    text = (folder / "valkey.conf").read_text(encoding="utf-8")
    quoted = re.search(r'^dir "(.*)"$', text, re.MULTILINE)
    assert quoted
    assert re.sub(r"\\(.)", r"\1", quoted[1]) == str(folder)


def test_only_so_many_logs_of_replicas_are_kept_and_all_others(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in ("mesh", "router", *(f"nlp-{number:04x}" for number in range(60))):
        os.close(home.open_log(name))
        os.utime(home.log(name), (0, 0))
    os.utime(home.log("nlp-0007"), (1000, 1000))
    home.prune_logs()
    kept = {path.stem for path in (tmp_path / "logs").iterdir()}
    assert len(kept) == 52
    assert {"mesh", "router", "nlp-0007"} <= kept
