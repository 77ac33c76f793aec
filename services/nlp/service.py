"""meshwork.nlp.v1.NlpService: requests to tasks and back."""

from __future__ import annotations

from typing import Any

import grpc.aio
import numpy as np

from meshwork.errors import InvalidArgument
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.type.v1 import classification_pb2
from services.nlp.tasks.embed import TextEmbedder

Context = grpc.aio.ServicerContext[Any, Any]

MOST_TEXTS = 1024
MOST_LABELS = 256
LONGEST_LABEL = 1000  # characters


class NlpService(nlp_pb2_grpc.NlpServiceServicer):
    """Answers NLP's rpcs with the models of its replica: each text is an item of its own to the batcher."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: Context) -> nlp_pb2.EmbedResponse:
        """Turns texts into unit vectors."""
        texts = fields.texts("texts", request.texts, most=MOST_TEXTS)
        answer = await self._models.run(TextEmbedder, "Embed", request.model, texts, context)
        return nlp_pb2.EmbedResponse(
            embeddings=[
                nlp_pb2.Embedding(
                    values=each.vector.tolist(), token_count=each.token_count, truncated=each.truncated
                )
                for each in answer.outputs
            ],
            served_by=answer.served_by,
        )

    async def ClassifyText(
        self, request: nlp_pb2.ClassifyTextRequest, context: Context
    ) -> nlp_pb2.ClassifyTextResponse:
        """Sorts a text into the caller's labels."""
        text = fields.text("text", request.text)
        labels = _labels(list(request.labels))
        loaded = await self._models.acquire(TextEmbedder, "ClassifyText", request.model, context)
        zero_shot = loaded.task.zero_shot
        # Asked by its full name, so that the phrases meet the model that they were made for.
        answer = await self._models.run(
            TextEmbedder, "ClassifyText", loaded.card.id, [text, *zero_shot.phrases(labels)], context
        )
        vectors = np.stack([each.vector for each in answer.outputs])
        scores = zero_shot.scores(vectors[0], vectors[1:])
        return nlp_pb2.ClassifyTextResponse(
            classifications=[
                classification_pb2.Classification(label=labels[index], score=float(scores[index]))
                for index in np.argsort(-scores, kind="stable")
            ],
            served_by=answer.served_by,
        )

    async def MatchTexts(
        self, request: nlp_pb2.MatchTextsRequest, context: Context
    ) -> nlp_pb2.MatchTextsResponse:
        """Orders candidates by how near their meaning is to the query's."""
        query = fields.text("query", request.query)
        candidates = fields.texts("candidates", request.candidates, most=MOST_TEXTS)
        if request.top_k < 0:
            raise InvalidArgument(f"should be 0 or more, not {request.top_k}", field="top_k")
        answer = await self._models.run(
            TextEmbedder, "MatchTexts", request.model, [query, *candidates], context
        )
        vectors = np.stack([each.vector for each in answer.outputs])
        # Rounding may put the cosine of equal texts a hair above 1.
        cosines = np.clip(vectors[1:] @ vectors[0], -1, 1)
        nearest = np.argsort(-cosines, kind="stable")[: request.top_k or None]
        return nlp_pb2.MatchTextsResponse(
            matches=[
                nlp_pb2.TextMatch(index=int(index), text=candidates[index], score=float(cosines[index]))
                for index in nearest
            ],
            served_by=answer.served_by,
        )


def _labels(values: list[str]) -> list[str]:
    labels = fields.texts("labels", values, fewest=2, most=MOST_LABELS, longest=LONGEST_LABEL)
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if first.setdefault(label, index) != index:
            raise InvalidArgument(
                f"is the same as labels[{first[label]}]; labels should differ", field=f"labels[{index}]"
            )
    return labels
