"""What a replica counts of its calls, and says every few seconds, so that the mesh can see what is odd.

A call is an error by the replica's fault: a caller's wrong request or
short deadline, or a refusal for lack of room, is none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from meshwork.errors import MeshworkError
from meshwork.rpc import OUR_FAULT
from meshwork.serving.device import Done
from meshwork.serving.task import Task
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.reports import MODELS, PERIOD_S, Figures, Report, Reports

log = logging.getLogger(__name__)

_FAULTS = OUR_FAULT - {grpc.StatusCode.RESOURCE_EXHAUSTED}
_PUT_S = 2.0


class Windows:
    """Counts a replica's calls, by model version; windows follow each other without a gap."""

    def __init__(self) -> None:
        self._models: dict[str, Figures] = {}
        self._begun = time.monotonic()
        self._number = 0
        self._mark = f"{os.getpid()}-{time.time_ns()}"

    def of(self, model: str) -> Figures:
        """The figures of the model `name@version`, in this window."""
        if model not in self._models and len(self._models) >= MODELS:
            return Figures()  # one too many is not counted
        return self._models.setdefault(model, Figures())

    @contextmanager
    def failing(self, model: str) -> Iterator[None]:
        """Counts a call that ends in an error by the replica's fault."""
        try:
            yield
        except Exception as error:
            self.failed(model, error)
            raise

    def failed(self, model: str, error: Exception) -> None:
        """Counts a call that ended in `error`."""
        figures = self.of(model)
        figures.calls += 1
        figures.errors += not isinstance(error, MeshworkError) or error.code in _FAULTS

    def answered(
        self, model: str, task: Task[Any, Any, Any, Any], pairs: Sequence[tuple[Any, Done]], took_s: float
    ) -> None:
        """Counts a call that was answered: its outputs, each with what it took."""
        figures = self.of(model)
        figures.answered(took_s, max((done.queue_s for _, done in pairs), default=0.0))
        for out, _ in pairs:
            seen = task.observed(out)
            if seen is not None and 0 <= seen[0] <= 1:  # NaN is not
                figures.observed(*seen)

    def take(self) -> Report:
        """The window that ends now; another one begins."""
        now = time.monotonic()
        self._number += 1
        report = Report(f"{self._mark}-{self._number}", max(now - self._begun, 1e-3), self._models)
        self._models, self._begun = {}, now
        return report

    async def run(self, reports: Reports, replica: str) -> None:
        """Reports until cancelled; what Redis does not take is lost."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                async with asyncio.timeout(_PUT_S):
                    await reports.put(replica, self.take())
            except REDIS_AWAY as error:  # TimeoutError is one of them
                log.debug("the window's figures are lost: %s", error)
