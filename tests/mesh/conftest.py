"""A whole mesh, started as a user starts it: real Valkey, router, Envoy and services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import meshwork
from meshwork.supervisor.home import Home, MeshRecord
from meshwork.supervisor.ports import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("vision", "nlp", "speech", "translation", "recommendation", "pipeline")


@dataclass(frozen=True)
class Mesh:
    """A running mesh and how to talk to it."""

    home: Home
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "MESHWORK_HOME": str(self.home.root), "PATH": path, "COLUMNS": "160"}

    def run(self, *words: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Runs `meshwork WORDS` in this mesh's home."""
        return subprocess.run(
            [sys.executable, "-m", "meshwork", *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def json(self, *words: str) -> Any:
        """What `meshwork WORDS --json` prints."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def record(self) -> MeshRecord:
        found = self.home.running()
        assert found is not None, "the mesh does not run"
        return found

    def client(self) -> meshwork.Client:
        return meshwork.connect(self.address, timeout_s=20)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The default mesh, for the whole test run."""
    mesh = Mesh(Home(tmp_path_factory.mktemp("mesh")), free_port())
    up = mesh.run("up", "-d", "--port", str(mesh.port), timeout_s=180)
    assert up.returncode == 0, up.stdout + up.stderr
    yield mesh
    down = mesh.run("down")
    assert down.returncode == 0, down.stdout + down.stderr


@pytest.fixture
def two_nlp(mesh: Mesh) -> Iterator[None]:
    """While the test runs, nlp has two replicas."""
    assert mesh.run("scale", "nlp=2").returncode == 0
    yield
    assert mesh.run("scale", "nlp=1").returncode == 0
