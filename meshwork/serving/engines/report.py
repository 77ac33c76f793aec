"""The engine of a model, and how it was chosen, as a lease shows it."""

from __future__ import annotations

from meshwork.router.v1 import router_pb2
from meshwork.serving.engines.engine import Engine


def describe_engine(described: router_pb2.Model, engine: Engine | None) -> None:
    """Writes `engine` and the verdict on it into `described`; None for a task that computes by itself."""
    described.engine = engine.name if engine else ""
    del described.engine_trials[:]
    verdict = engine.verdict if engine else None
    for trial in verdict.trials if verdict else ():
        described.engine_trials.add(
            engine=trial.engine,
            single_ms=trial.single_ms,
            item_ms=trial.item_ms,
            batch_size=trial.batch_size,
            max_error=trial.max_error,
            refused=trial.refused,
        )
