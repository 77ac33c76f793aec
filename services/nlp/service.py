"""meshwork.nlp.v1.NlpService: requests to tasks and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import chain, islice
from typing import Any, TypeVar

import grpc.aio
import numpy as np

from meshwork.errors import InvalidArgument
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.serving.loaded import Loaded
from meshwork.serving.threads import contained
from meshwork.type.v1 import classification_pb2, served_by_pb2
from services.nlp import gen_ai, writing
from services.nlp.offsets import counted
from services.nlp.tasks.answer import Answerer, answers
from services.nlp.tasks.classify import Question, Scores, TextClassifier, TextSorter
from services.nlp.tasks.embed import TextEmbedder
from services.nlp.tasks.entities import Entity, EntityTagger, entities
from services.nlp.tasks.generate import TextGenerator

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

MOST_TEXTS = 1024
MOST_READ = 256  # texts of any length
MOST_ANSWERS = 100
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
        counts = [each.token_count for each in answer.outputs]
        gen_ai.embedded(request.model, answer.served_by.model, counts, answer.outputs[0].vector.size)
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
        """Sorts a text into the model's labels, or into the caller's."""
        text = fields.text("text", request.text)
        labels: list[str] = []
        if request.labels:
            labels = fields.labels("labels", request.labels, most=MOST_LABELS, longest=LONGEST_LABEL)
        loaded = await self._models.acquire(TextSorter, "ClassifyText", request.model, context)
        sort = self._sort_by_classes if isinstance(loaded.task, TextClassifier) else self._sort_by_meaning
        names, scores, served_by = await sort(loaded, text, labels, context)
        return nlp_pb2.ClassifyTextResponse(
            classifications=[
                classification_pb2.Classification(label=names[index], score=float(scores[index]))
                for index in np.argsort(-scores, kind="stable")
            ],
            served_by=served_by,
        )

    async def _sort_by_classes(
        self, loaded: Loaded[Any], text: str, labels: list[str], context: Context
    ) -> tuple[Sequence[str], Scores, served_by_pb2.ServedBy]:
        classes = loaded.task.classes
        if labels and classes.entailment is None:
            own = ", ".join(classes.labels[:20])
            raise InvalidArgument(
                f"should be left out: {loaded.card.id} knows labels of its own only: {own}", field="labels"
            )
        asked = [Question(text, hypothesis) for hypothesis in classes.hypotheses(labels)]
        # By its full name, so that what is asked meets the model that it was made for.
        answer = await self._models.run(
            TextClassifier, "ClassifyText", loaded.card.id, asked or [Question(text)], context
        )
        if labels:
            return labels, classes.entailed(answer.outputs), answer.served_by
        return classes.labels, classes.scores(answer.outputs[0]), answer.served_by

    async def _sort_by_meaning(
        self, loaded: Loaded[Any], text: str, labels: list[str], context: Context
    ) -> tuple[Sequence[str], Scores, served_by_pb2.ServedBy]:
        if not labels:
            raise InvalidArgument(
                f"should have 2 to {MOST_LABELS} entries: {loaded.card.id} has no labels of its own",
                field="labels",
            )
        zero_shot = loaded.task.zero_shot
        answer = await self._models.run(
            TextEmbedder, "ClassifyText", loaded.card.id, [text, *zero_shot.phrases(labels)], context
        )
        vectors = np.stack([each.vector for each in answer.outputs])
        return labels, zero_shot.scores(vectors[0], vectors[1:]), answer.served_by

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

    async def ExtractEntities(
        self, request: nlp_pb2.ExtractEntitiesRequest, context: Context
    ) -> nlp_pb2.ExtractEntitiesResponse:
        """Finds what texts name; each window of a text is an item of its own to the batcher."""
        texts = fields.texts("texts", request.texts, most=MOST_READ)
        loaded = await self._models.acquire(EntityTagger, "ExtractEntities", request.model, context)
        tagger = loaded.task
        windows = await _aside(loaded, lambda: [tagger.windows(text) for text in texts])
        answer = await self._models.run(
            EntityTagger, "ExtractEntities", loaded.card.id, list(chain(*windows)), context
        )
        tagged = iter(answer.outputs)

        def results() -> list[nlp_pb2.TextEntities]:
            return [
                _entities(text, entities(text, each, list(islice(tagged, len(each))), tagger.tags), request)
                for text, each in zip(texts, windows, strict=True)
            ]

        return nlp_pb2.ExtractEntitiesResponse(
            results=await _aside(loaded, results), served_by=answer.served_by
        )

    async def AnswerQuestion(
        self, request: nlp_pb2.AnswerQuestionRequest, context: Context
    ) -> nlp_pb2.AnswerQuestionResponse:
        """Answers a question from a text; each window of it is an item of its own to the batcher."""
        question = fields.text("question", request.question)
        text = fields.text("context", request.context)
        most = fields.count("top_k", request.top_k, default=1, high=MOST_ANSWERS)
        loaded = await self._models.acquire(Answerer, "AnswerQuestion", request.model, context)
        answerer = loaded.task
        windows = await _aside(loaded, lambda: answerer.windows(question, text))
        answer = await self._models.run(Answerer, "AnswerQuestion", loaded.card.id, windows, context)
        found = await _aside(loaded, lambda: answers(windows, answer.outputs, most))
        count = counted(text, request.offset_encoding)
        return nlp_pb2.AnswerQuestionResponse(
            answers=[
                nlp_pb2.Answer(
                    text=text[span.start : span.end],
                    score=span.score,
                    start=count(span.start),
                    end=count(span.end),
                )
                for span in found.spans
                if found.spans[0].score >= found.none_score
            ],
            no_answer_score=found.none_score,
            served_by=answer.served_by,
        )

    async def Generate(
        self, request: nlp_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[nlp_pb2.GenerateResponse]:
        """Writes a text, piece by piece."""
        answering = writing.Answering(time.monotonic)
        order = writing.order(request)
        gen_ai.asked(request, order.max_output_tokens)
        pieces = self._models.stream(TextGenerator, "Generate", request.model, order, context)
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                response = answering.response(piece.out, piece.served_by)
                gen_ai.wrote(response)
                yield response


async def _aside(loaded: Loaded[Any], work: Callable[[], T]) -> T:
    """Does what may take long on a thread of the model's, so that the event loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(loaded.cpu, contained, work)


def _entities(
    text: str, found: list[Entity], request: nlp_pb2.ExtractEntitiesRequest
) -> nlp_pb2.TextEntities:
    count = counted(text, request.offset_encoding)
    return nlp_pb2.TextEntities(
        entities=[
            nlp_pb2.Entity(
                text=text[each.start : each.end],
                type=each.kind,
                score=each.score,
                start=count(each.start),
                end=count(each.end),
            )
            for each in found
        ]
    )
