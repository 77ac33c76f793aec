"""A replica of nlp with one model that keeps a core busy for 5 ms a call, outside Python's lock.

As a network does: PBKDF2 runs in C and lets other threads of Python run. Calls are computed one by one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.server import ServiceContext, ServiceSpec
from meshwork.serving.card import ModelDirectory
from meshwork.serving.task import Task

BUSY_S = 0.005
ROUNDS = "BENCHMARK_ROUNDS"  # variable: PBKDF2's iterations of a call
CARD = 'name: busy\nversion: "1"\nservice: nlp\ntask: busy\nmethods: [Embed]\nlicence: MIT\n'
SPEC = ServiceSpec(
    name="nlp",
    full_name="meshwork.nlp.v1.NlpService",
    tasks={"busy": "benchmarks.traced.service:Busy"},
    servicer="benchmarks.traced.service:BusyNlp",
)


def rounds(seconds: float) -> int:
    """PBKDF2's iterations that take so long on this machine: the quickest of some tries."""
    probe, best = 2000, float("inf")
    for _ in range(30):
        begun = time.thread_time()
        hashlib.pbkdf2_hmac("sha256", b"text", b"salt", probe)
        best = min(best, time.thread_time() - begun)
    return round(probe * seconds / best)


class Busy(Task[str, str, int, int]):
    """A text -> its length, after 5 ms of computing."""

    light: ClassVar[bool] = True
    methods: ClassVar[tuple[str, ...]] = ("Embed",)

    def __init__(self) -> None:
        self._rounds = int(os.environ[ROUNDS])
        self._alone = itertools.count(1)

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """As many rounds as the benchmark measured, the same in every replica."""
        return cls()

    def warm_up(self) -> None:
        """Once."""
        self.forward(["warm"])

    def preprocess(self, request: str) -> str:
        """Itself."""
        return request

    def group(self, prepared: str) -> int:
        """Of its own: a batch of one."""
        return next(self._alone)

    def forward(self, batch: Sequence[str]) -> Sequence[int]:
        """Computes."""
        for text in batch:
            hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", self._rounds)
        return [len(text) for text in batch]

    def postprocess(self, prepared: str, raw: int) -> int:
        """Itself."""
        return raw


class BusyNlp(nlp_pb2_grpc.NlpServiceServicer):
    """Embeds a text as its length."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: Any) -> nlp_pb2.EmbedResponse:
        """See `Busy`."""
        answer = await self._models.run(Busy, "Embed", request.model, list(request.texts), context)
        return nlp_pb2.EmbedResponse(
            embeddings=[nlp_pb2.Embedding(values=[length]) for length in answer.outputs],
            served_by=answer.served_by,
        )

    ClassifyText = MatchTexts = ExtractEntities = AnswerQuestion = Generate = Embed  # nobody calls them
