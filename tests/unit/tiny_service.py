"""A service of one echoing model, run as `python -m tests.unit.tiny_service`: a replica that starts fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from meshwork.errors import MeshworkError
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.server import ServiceContext, ServiceSpec, main
from tests.unit.serving.echo_task import Echo

SPEC = ServiceSpec(
    name="nlp",
    full_name="meshwork.nlp.v1.NlpService",
    tasks={"echo": "tests.unit.tiny_service:Patient"},
    servicer="tests.unit.tiny_service:Tiny",
)


class Patient(Echo):
    """Holds the device on `until PATH` for as long as PATH is not there; makes PATH.began first."""

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        for item in batch:
            if item.startswith("until "):
                Path(f"{item[6:]}.began").touch()
            while item.startswith("until ") and not Path(item[6:]).exists():
                time.sleep(0.01)
        return super().forward(batch)


class Tiny(nlp_pb2_grpc.NlpServiceServicer):
    """Embeds a text as its echo's length."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: Any) -> nlp_pb2.EmbedResponse:
        answer = await self._models.run(Echo, "Embed", request.model, list(request.texts), context)
        return nlp_pb2.EmbedResponse(
            embeddings=[nlp_pb2.Embedding(values=[len(text)]) for text in answer.outputs],
            served_by=answer.served_by,
        )

    async def Generate(
        self, request: nlp_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[nlp_pb2.GenerateResponse]:
        """A piece every 20 ms, as many as are asked for."""
        for number in range(request.max_output_tokens):
            yield nlp_pb2.GenerateResponse(text=f"{number} ")
            await asyncio.sleep(0.02)

    ClassifyText = MatchTexts = ExtractEntities = AnswerQuestion = Embed


if __name__ == "__main__":
    main(SPEC)
