"""Starts that mesh, as a user would: `meshwork up -d` in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from meshwork.supervisor.home import Home
from meshwork.supervisor.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ECHO, TICKER = {"source": str(HERE / "echo")}, {"source": str(HERE / "ticker")}
HELD = {"source": str(HERE / "held")}


def light_services(nlp: int = 3, translation: int = 2) -> dict[str, Any]:
    """Services whose calls cost nearly nothing: unary calls, and streams of nlp."""
    return {
        "nlp": {"replicas": nlp, "models": [ECHO, TICKER]},
        "translation": {"replicas": translation, "models": [{"source": "starter://langid"}]},
    }


def meshwork(home: Path, *words: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs `meshwork WORDS` in that home."""
    return subprocess.run(
        [sys.executable, "-m", "meshwork", *words],
        env={**os.environ, "MESHWORK_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@contextmanager
def running(folder: Path, services: Mapping[str, Any], gateways: int = 1) -> Iterator[Home]:
    """A mesh with these services (as in mesh.yaml) and so many gateways, while the `with` lasts.

    Raises:
        RuntimeError: it did not start; tells why.
    """
    home = Home(folder / "home")
    listen = [f"127.0.0.1:{free_port()}" for _ in range(gateways)]
    config: dict[str, Any] = {"gateway": {"listen": listen if gateways > 1 else listen[0]}}
    file = folder / "mesh.yaml"
    file.write_text(yaml.safe_dump({**config, "services": dict(services)}), encoding="utf-8")
    up = meshwork(home.root, "up", "-d", "--config", str(file))
    if up.returncode:
        raise RuntimeError(f"the mesh did not start:\n{up.stdout}{up.stderr}")
    try:
        yield home
    finally:
        meshwork(home.root, "down")
