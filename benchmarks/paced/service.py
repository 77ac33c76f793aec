"""A replica of nlp with one model that holds its device for as long as a file says.

It sleeps instead of computing, so that two cores have room for six replicas, a gateway and the callers;
all else is the product: server, admission, queue, batches, load report, lease.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.server import ServiceContext, ServiceSpec
from meshwork.serving.card import ModelDirectory
from meshwork.serving.task import Task

SPEC = ServiceSpec(
    name="nlp",
    full_name="meshwork.nlp.v1.NlpService",
    tasks={"paced": "benchmarks.paced.service:Paced"},
    servicer="benchmarks.paced.service:PacedNlp",
)
MODEL = "paced"
CARD = f'name: {MODEL}\nversion: "1"\nservice: nlp\ntask: paced\nmethods: [Embed]\nlicence: MIT\n'
MOST = 8
PACE = (
    "pace.json"  # {"batch_ms": of a batch, "item_ms": of each item in it, "most": 1 or MOST items of a batch}
)


class Paced(Task[str, str, int, int]):
    """A text -> its length, in its own time."""

    light: ClassVar[bool] = True
    methods: ClassVar[tuple[str, ...]] = ("Embed",)
    max_batch_items: ClassVar[int] = MOST

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._alone = itertools.count(1)
        self._pace: dict[str, float] = {}

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Finds pace.json."""
        return cls(directory.file(PACE))

    def warm_up(self) -> None:
        """Reads the pace."""
        self._now()

    def _now(self) -> dict[str, float]:
        changed = self._file.stat().st_mtime_ns
        if changed != self._read:
            self._read, self._pace = changed, json.loads(self._file.read_text())
        return self._pace

    def preprocess(self, request: str) -> str:
        """Itself."""
        return request

    def group(self, prepared: str) -> int:
        """Of its own where each is to be alone."""
        return next(self._alone) if self._pace["most"] == 1 else 0

    def forward(self, batch: Sequence[str]) -> Sequence[int]:
        """Sleeps."""
        pace = self._now()
        time.sleep((pace["batch_ms"] + pace["item_ms"] * len(batch)) / 1000)
        return [len(text) for text in batch]

    def postprocess(self, prepared: str, raw: int) -> int:
        """Itself."""
        return raw


class PacedNlp(nlp_pb2_grpc.NlpServiceServicer):
    """Embeds a text as its length."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: Any) -> nlp_pb2.EmbedResponse:
        """See `Paced`."""
        answer = await self._models.run(Paced, "Embed", request.model, list(request.texts), context)
        return nlp_pb2.EmbedResponse(
            embeddings=[nlp_pb2.Embedding(values=[length]) for length in answer.outputs],
            served_by=answer.served_by,
        )

    ClassifyText = MatchTexts = ExtractEntities = AnswerQuestion = Generate = Embed  # nobody calls them
