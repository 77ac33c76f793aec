"""Trying engines on a model's own shapes: held to the reference first, then timed.

An engine may be used if `error_between` its outputs and the reference's is within the tolerance. Of
those, the one with the least

    (milliseconds of one item alone) x (milliseconds an item in a batch of several)

is taken, so that neither a lone caller nor throughput counts for more. A busy machine only ever adds to
times (replicas of a mesh often load at once), so each is the least of a few runs, and on the CPU the
lesser of the time that passed and the processor time of this process.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import Arrays, Engine, EngineTrial, TensorSpec, Verdict, error_between
from meshwork.serving.threads import contained

log = logging.getLogger(__name__)

BATCH = 8  # items of the larger batch
_TURNS = 8
_PATIENCE_S = 1.5  # for an engine's runs on one batch, though one is always made
_LONGEST_REASON = 300


def example_of(inputs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> Arrays:
    """A batch of noise that fits `inputs`: normal where floating, else 0 and 1.

    Args:
        inputs: what the network takes.
        shapes: by name, for inputs whose open sizes cannot be just anything; else the batch is 2 and
            any other open size 8.
    """
    random = np.random.default_rng(0)
    arrays = {}
    for spec in inputs:
        open_sizes = [2 if axis == 0 else 8 for axis in range(len(spec.shape))]
        shape = shapes.get(spec.name) or [
            size or open_size for size, open_size in zip(spec.shape, open_sizes, strict=True)
        ]
        floating = spec.dtype.startswith("float")
        array = random.normal(size=shape) if floating else random.integers(0, 2, shape)
        arrays[spec.name] = np.asarray(array).astype(spec.dtype)
    return arrays


def batch_of(example: Arrays, inputs: Sequence[TensorSpec], size: int) -> Arrays:
    """`example` repeated or cut to `size` items; inputs without an open batch axis stay as they are."""
    return {
        spec.name: example[spec.name]
        if not spec.shape or spec.shape[0] is not None
        else np.resize(example[spec.name], (size, *example[spec.name].shape[1:]))
        for spec in inputs
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What engines of one model are tried on."""

    batches: tuple[Arrays, ...]  # one item, and BATCH of them where the batch axis is open
    reference: tuple[Arrays, ...]  # the outputs that each should give
    tolerance: float  # the largest error that may be
    on_cpu: bool  # whether the engines compute there and nowhere else

    def error(self, engine: Engine) -> float:
        """The largest error of `engine`'s outputs."""
        pairs = zip(self.batches, self.reference, strict=True)
        return max(error_between(contained(engine.run, batch), want) for batch, want in pairs)

    def checked(self, build: Callable[[], Engine]) -> tuple[Engine, float]:
        """Builds an engine and gives it with its error.

        Raises:
            CardError: the error is above the tolerance.
            Exception: whatever the engine breaks with.
        """
        engine = contained(build)
        try:
            error = self.error(engine)
            if not error <= self.tolerance:
                raise CardError(
                    f"its outputs are off by {error:.2g}, more than the tolerance of {self.tolerance:g}; "
                    "if that may be, declare a larger `tolerance`"
                )
        except Exception:
            engine.close()
            raise
        return engine, error

    def compare(
        self, builds: Mapping[str, Callable[[], Engine]]
    ) -> tuple[Engine | None, tuple[EngineTrial, ...]]:
        """Builds, checks and times engines, and closes all but the best.

        They are timed in turns, so that what else the machine does in the meantime hits all alike.

        Returns:
            The best engine, and what each gave; whatever one breaks with becomes the reason to refuse it.
        """
        engines: dict[str, Engine] = {}
        trials: dict[str, EngineTrial] = {}

        def refuse(name: str, failure: Exception) -> None:
            log.info("engine %s is refused", name, exc_info=failure)
            trials[name] = replace(trials[name], refused=reason(failure))
            if engine := engines.pop(name, None):
                engine.close()

        for name, build in builds.items():
            trials[name] = EngineTrial(engine=name)
            try:
                engines[name], error = self.checked(build)
            except Exception as failure:
                refuse(name, failure)
            else:
                trials[name] = EngineTrial(engine=engines[name].name, max_error=error)
        best = {name: [float("inf")] * len(self.batches) for name in engines}
        for index, batch in enumerate(self.batches):
            began = time.perf_counter()
            for turn in range(_TURNS):
                if turn and time.perf_counter() - began > _PATIENCE_S * len(engines):
                    break
                for name, engine in list(engines.items()):
                    try:
                        best[name][index] = min(best[name][index], self._seconds(engine, batch))
                    except Exception as failure:
                        refuse(name, failure)
        size = max(len(array) for array in self.batches[-1].values())
        for name in engines:
            single_s, batch_s = best[name]
            trials[name] = replace(
                trials[name], single_ms=single_s * 1e3, item_ms=batch_s * 1e3 / size, batch_size=size
            )
        least = min(engines, key=lambda name: trials[name].single_ms * trials[name].item_ms, default="")
        for name, engine in engines.items():
            if name != least:
                engine.close()
        return engines.get(least), tuple(trials.values())

    def _seconds(self, engine: Engine, batch: Arrays) -> float:
        start, processor = time.perf_counter(), time.process_time()
        contained(engine.run, batch)
        passed = time.perf_counter() - start
        return min(passed, time.process_time() - processor) if self.on_cpu else passed


def reason(failure: Exception) -> str:
    """Why an engine is refused, on one line."""
    return " ".join(str(failure).split())[:_LONGEST_REASON] or type(failure).__name__


def write_verdict(verdict: Verdict, file: Path) -> None:
    """Writes it as JSON."""
    file.write_text(json.dumps(asdict(verdict), indent=1), encoding="utf-8")


def read_verdict(file: Path) -> Verdict | None:
    """Reads it; None if there is none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        trials = tuple(EngineTrial(**trial) for trial in content["trials"])
        return Verdict(engine=content["engine"], trials=trials)
    except (OSError, ValueError, TypeError, KeyError):
        return None
