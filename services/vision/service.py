"""meshwork.vision.v1.VisionService: requests to tasks and back."""

from __future__ import annotations

from typing import Any

import grpc.aio

from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.type.v1 import classification_pb2
from meshwork.vision.v1 import vision_pb2, vision_pb2_grpc
from services.vision.tasks.classify import ImageClassifier, ImageInput


class VisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers vision's rpcs with the models of its replica."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Classify(
        self,
        request: vision_pb2.ClassifyRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> vision_pb2.ClassifyResponse:
        """Says what an image shows."""
        source = request.image.WhichOneof("source")
        image = ImageInput(
            content=fields.media("image", source, request.image.content, request.image.uri),
            top_k=fields.count("top_k", request.top_k, default=5, high=1000),
            field=f"image.{source}",
        )
        answer = await self._models.run(ImageClassifier, "Classify", request.model, [image], context)
        return vision_pb2.ClassifyResponse(
            classifications=[
                classification_pb2.Classification(label=each.label, score=each.score)
                for each in answer.outputs[0]
            ],
            served_by=answer.served_by,
        )
