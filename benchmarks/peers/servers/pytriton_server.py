"""pytriton: NVIDIA Triton, its Python functions in this process's workers; batches by size and delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers import workloads
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()
VECTOR = SETTINGS.workload == "vector"


def function() -> Callable[..., Any]:
    """An instance of the model."""
    run = workloads.load(SETTINGS.workload, SETTINGS.threads)

    @batch  # type: ignore[untyped-decorator]
    def infer(x: Any) -> list[Any]:
        if VECTOR:
            return [run(x)]
        return [run([row[0].decode() if SETTINGS.workload == "text" else row[0] for row in x])]

    infer_function: Callable[..., Any] = infer
    return infer_function


def main() -> None:
    """Serves until a signal."""
    config = TritonConfig(
        grpc_port=SETTINGS.port,
        http_port=SETTINGS.port + 1,
        grpc_address="127.0.0.1",
        http_address="127.0.0.1",
        metrics_port=SETTINGS.port + 2,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=SETTINGS.workload,
            infer_func=[function() for _ in range(SETTINGS.workers)],
            inputs=[Tensor(name="x", dtype=np.float32 if VECTOR else bytes, shape=(64,) if VECTOR else (1,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=SETTINGS.max_batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(SETTINGS.max_wait_ms * 1000)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
