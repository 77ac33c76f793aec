"""The offline limit: the served task on the same inputs in ideal batches, without a server.

Every core runs a process of its own with one torch thread, each on its share of the inputs, sorted by
cost and cut into batches; decoding, the network and the scores are counted, calls are not. Nothing that
answers requests one by one, as they come, can be faster than this with the same network.

Prints one JSON line: `{"rps", "cpu_us", "max_error"}`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.places import IMAGE_MODEL, ROOT, TEXT_MODEL
from benchmarks.peers.requests import Array, Requests
from meshwork.model_config import ModelConfig, from_json, to_json
from meshwork.serving.build import build, task_class
from meshwork.serving.lane import AnyTask
from meshwork.serving.sources import Catalogue, open_source

_START = "ready"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Workload:
    service: str
    source: str
    given: Callable[[Any], Any]  # from an input of `Requests` to the task's
    answer: Callable[[AnyTask, Any], Array]  # from the task's output to what `Requests.error` takes
    most_items: int  # of a batch
    most_cost: float


def _text(value: Any) -> Any:
    from services.nlp.tasks.classify import Question

    return Question(value)


def _scores(task: Any, out: Any) -> Array:
    return np.asarray(task.classes.scores(out), np.float32)


def _image(value: Any) -> Any:
    from services.vision.tasks.classify import ImageInput

    return ImageInput(content=value, top_k=5)


def _classes(_: AnyTask, out: Any) -> Array:
    numbers = [float(each.label.removeprefix("class ")) for each in out]
    return np.array([*numbers, *(each.score for each in out)], np.float32)


WORKLOADS = {
    "text": _Workload(
        service="nlp",
        source=str(TEXT_MODEL),
        given=_text,
        answer=_scores,
        most_items=128,
        most_cost=4096,  # tokens
    ),
    "image": _Workload(
        service="vision",
        source=str(IMAGE_MODEL),
        given=_image,
        answer=_classes,
        most_items=8,
        most_cost=float("inf"),
    ),
}


def limit(workload: str, config: ModelConfig, *, run_s: float = 6.0) -> dict[str, float]:
    """Measures it: a process for each core, all at once.

    Raises:
        RuntimeError: a process failed; says what it said.
    """
    cores = os.cpu_count() or 1
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.peers.offline", workload, "--config", to_json(config)),
                *("--share", str(share), "--shares", str(cores), "--run-s", str(run_s)),
            ],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(cores)
    ]
    try:
        found = []
        for worker in workers:
            assert worker.stdout is not None
            if _START not in worker.stdout.readline():
                raise RuntimeError("an offline process failed; what it said stands above")
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            found.append(json.loads(worker.stdout.readline()))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    count = sum(each["count"] for each in found)
    return {
        "rps": round(sum(each["count"] / each["took_s"] for each in found), 1),
        "cpu_us": round(sum(each["cpu_s"] for each in found) / count * 1e6, 1),
        "max_error": max(each["max_error"] for each in found),
    }


def load_task(workload: str, config: ModelConfig) -> AnyTask:
    """The task, loaded and warm, as a replica on one core has it."""
    spec = importlib.import_module(f"services.{WORKLOADS[workload].service}.__main__").SPEC
    catalogue = Catalogue(
        service=spec.name,
        tasks=tuple(spec.tasks),
        architectures=spec.architectures,
        methods=lambda task: task_class(task, spec.tasks, None).methods,
    )
    directory = open_source(config, catalogue)
    return build(task_class(directory.card.task, spec.tasks, directory), directory, "cpu").task


def _batches(task: AnyTask, prepared: Sequence[Any], kind: _Workload) -> Iterator[list[int]]:
    """Positions of items for a batch each: cheap items together, none above the bounds."""
    costs = [task.cost(each) for each in prepared]
    batch: list[int] = []
    for index in sorted(range(len(prepared)), key=costs.__getitem__):
        # As if padded to the costliest, which is the last: the batch fits a network that pads, too.
        if batch and (len(batch) == kind.most_items or costs[index] * (len(batch) + 1) > kind.most_cost):
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _work(options: argparse.Namespace) -> None:
    kind, config = WORKLOADS[options.workload], from_json(options.config)
    task = load_task(options.workload, config)
    requests = Requests.load(options.workload)
    mine = range(options.share, len(requests.inputs), options.shares)
    inputs = [kind.given(requests.inputs[index]) for index in mine]
    batches = list(_batches(task, [task.preprocess(each) for each in inputs], kind))

    def run(batch: Sequence[int]) -> list[Any]:
        prepared = [task.preprocess(inputs[index]) for index in batch]
        return [task.postprocess(one, raw) for one, raw in zip(prepared, task.forward(prepared), strict=True)]

    error = max(
        requests.error(mine[index], kind.answer(task, out))
        for batch in batches
        for index, out in zip(batch, run(batch), strict=True)
    )
    print(_START, flush=True)
    sys.stdin.readline()
    # Batches of all sizes, mixed, so that a run that ends early is no worse or better for it.
    order = np.random.default_rng(0).permutation(len(batches))
    count, at, began, cpu = 0, 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < options.run_s or at % len(batches):
        batch = batches[order[at % len(batches)]]
        run(batch)
        count += len(batch)
        at += 1
    took = time.perf_counter() - began
    cpu_s = time.process_time() - cpu
    print(json.dumps({"count": count, "took_s": took, "cpu_s": cpu_s, "max_error": error}), flush=True)


def main() -> None:
    """A worker of `limit`; without `--config`, the limit itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=tuple(WORKLOADS))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--config", default="", help="a ModelConfig as JSON")
    parser.add_argument("--share", type=int, default=0)
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--run-s", type=float, default=6.0)
    options = parser.parse_args()
    if options.config:
        _work(options)
        return
    config = ModelConfig(source=WORKLOADS[options.workload].source, precision=options.precision)
    print(json.dumps(limit(options.workload, config, run_s=options.run_s)))


if __name__ == "__main__":
    main()
