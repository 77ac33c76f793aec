"""What people and machines do to a mesh besides using it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from meshwork.supervisor.home import Home, MeshRecord
from meshwork.supervisor.ports import free_port

FILE = "gateway:\n  listen: localhost:{port}\nservices:\n  nlp: {{replicas: 0}}\n"


@contextlib.contextmanager
def foreground(root: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    root.mkdir(parents=True)
    config = root / "mesh.yaml"
    config.write_text(FILE.format(port=free_port()))
    process = subprocess.Popen(
        [sys.executable, "-m", "meshwork", "up", "--config", str(config)],
        env={**environment, "MESHWORK_HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def started(home: Home, process: subprocess.Popen[str]) -> MeshRecord:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        record = home.running()
        if record is not None and record.state == "ready":
            return record
        time.sleep(0.05)
    pytest.fail(f"the mesh did not start: {process.stdout.read() if process.stdout else ''}")


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_home_of_an_awkward_name_serves_on_localhost_and_a_second_ctrl_c_leaves_nothing(
    mesh: Any, tmp_path: Path
) -> None:
    root = tmp_path / f'with space, é and "quotes" {"long" * 30}'
    home = Home(root)
    with foreground(root, mesh.environment) as process:
        record = started(home, process)
        pids = [entry.pid for entry in record.processes]
        assert len(pids) == 2  # Valkey and the router
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.wait(10)
        deadline = time.monotonic() + 5
        while not all(map(gone, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(gone, pids))


def test_a_replica_that_hangs_is_the_one_that_scaling_down_takes(mesh: Any, two_nlp: None) -> None:
    hung = next(entry for entry in mesh.record().processes if entry.service == "nlp")  # the elder
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 30
        while any(each["name"] == hung.name for each in mesh.json("status")["replicas"]):
            assert time.monotonic() < deadline, "the lease of a replica that hangs did not lapse"
            time.sleep(0.2)
        assert mesh.run("scale", "nlp=1").returncode == 0
        with mesh.client() as client:
            assert client.nlp.embed("a").served_by.replica != hung.name
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung.pid, signal.SIGCONT)
