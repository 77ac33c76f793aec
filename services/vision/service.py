"""meshwork.vision.v1.VisionService: requests to tasks and back."""

from __future__ import annotations

from typing import Any

import grpc.aio
import numpy as np

from meshwork.errors import InvalidArgument
from meshwork.server import ServiceContext
from meshwork.serving import fields
from meshwork.serving.task import Task
from meshwork.type.v1 import classification_pb2
from meshwork.vision.v1 import vision_pb2, vision_pb2_grpc
from services.vision.phrases import PhraseMemory
from services.vision.tasks.classify import ImageClassifier, ImageInput
from services.vision.tasks.detect import DetectInput, ObjectDetector
from services.vision.tasks.embed import Embedded, ImageEmbedder, ImageToEmbed, TextToEmbed

Context = grpc.aio.ServicerContext[Any, Any]

MOST_IMAGES = 64
MOST_TEXTS = 1024
MOST_LABELS = 256
LONGEST_LABEL = 1000  # characters
MOST_RESULTS = 1000


class VisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers vision's rpcs with the models of its replica."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models
        self._phrases = PhraseMemory()

    async def Classify(
        self, request: vision_pb2.ClassifyRequest, context: Context
    ) -> vision_pb2.ClassifyResponse:
        """Says what an image shows, in the model's classes or in the caller's labels."""
        top_k = fields.count("top_k", request.top_k, default=5, high=MOST_RESULTS)
        content, field = _image("image", request.image)
        if request.labels:
            return await self._sort(request, content, field, top_k, context)
        if request.model:
            asked = await self._models.acquire(Task, "Classify", request.model, context)
            if isinstance(asked.task, ImageEmbedder):
                raise InvalidArgument(
                    f"{asked.card.id} has no classes of its own; give it 2 or more labels", field="labels"
                )
        image = ImageInput(content=content, top_k=top_k, field=field)
        answer = await self._models.run(ImageClassifier, "Classify", request.model, [image], context)
        return vision_pb2.ClassifyResponse(
            classifications=[
                classification_pb2.Classification(label=each.label, score=each.score)
                for each in answer.outputs[0]
            ],
            served_by=answer.served_by,
        )

    async def _sort(
        self, request: vision_pb2.ClassifyRequest, content: bytes, field: str, top_k: int, context: Context
    ) -> vision_pb2.ClassifyResponse:
        """Classify with labels of the caller's."""
        labels = fields.labels("labels", request.labels, most=MOST_LABELS, longest=LONGEST_LABEL)
        kind = Task if request.model else ImageEmbedder
        loaded = await self._models.acquire(kind, "Classify", request.model, context)
        if not isinstance(loaded.task, ImageEmbedder):
            raise InvalidArgument(
                f"{loaded.card.id} knows its own classes only; leave labels out, or name a model that "
                "takes any, such as a CLIP",
                field="labels",
            )
        zero_shot, model = loaded.task.zero_shot, loaded.card.id
        phrases = zero_shot.phrases(labels)
        known = self._phrases.known(model, phrases)
        inputs: list[ImageToEmbed | TextToEmbed] = [ImageToEmbed(content=content, field=field)]
        unknown = [index for index, phrase in enumerate(phrases) if phrase not in known]
        inputs += [
            TextToEmbed(text=phrases[index], field=f"labels[{index}]", whole=True) for index in unknown
        ]
        # Asked by its full name, so that the phrases meet the model that they were made for.
        answer = await self._models.run(ImageEmbedder, "Classify", model, inputs, context)
        for index, embedded in zip(unknown, answer.outputs[1:], strict=True):
            known[phrases[index]] = embedded.vector
            self._phrases.keep(model, phrases[index], embedded.vector)
        scores = zero_shot.scores(answer.outputs[0].vector, np.stack([known[phrase] for phrase in phrases]))
        return vision_pb2.ClassifyResponse(
            classifications=[
                classification_pb2.Classification(label=labels[index], score=float(scores[index]))
                for index in np.argsort(-scores, kind="stable")[:top_k]
            ],
            served_by=answer.served_by,
        )

    async def Detect(self, request: vision_pb2.DetectRequest, context: Context) -> vision_pb2.DetectResponse:
        """Finds the objects in an image."""
        min_score = fields.number("min_score", request.min_score, default=0.5, low=0, high=1)
        max_results = fields.count("max_results", request.max_results, default=100, high=MOST_RESULTS)
        content, field = _image("image", request.image)
        image = DetectInput(content=content, min_score=min_score, max_results=max_results, field=field)
        answer = await self._models.run(ObjectDetector, "Detect", request.model, [image], context)
        (detected,) = answer.outputs
        width, height = detected.width, detected.height
        return vision_pb2.DetectResponse(
            detections=[
                vision_pb2.Detection(
                    label=each.label,
                    score=each.score,
                    pixel_box=vision_pb2.Box(
                        left=each.left, top=each.top, right=each.right, bottom=each.bottom
                    ),
                    normalized_box=vision_pb2.Box(
                        left=each.left / width,
                        top=each.top / height,
                        right=each.right / width,
                        bottom=each.bottom / height,
                    ),
                )
                for each in detected.found
            ],
            image_width=width,
            image_height=height,
            served_by=answer.served_by,
        )

    async def EmbedImage(
        self, request: vision_pb2.EmbedImageRequest, context: Context
    ) -> vision_pb2.EmbedImageResponse:
        """Turns images and texts into unit vectors of one space."""
        if not request.images and not request.texts:
            raise InvalidArgument("give an image, or texts, to embed", field="images")
        if len(request.images) > MOST_IMAGES:
            raise InvalidArgument(
                f"should have at most {MOST_IMAGES} entries, not {len(request.images)}", field="images"
            )
        texts = fields.texts("texts", request.texts, fewest=0, most=MOST_TEXTS)
        inputs: list[ImageToEmbed | TextToEmbed] = []
        for index, image in enumerate(request.images):
            content, field = _image(f"images[{index}]", image)
            inputs.append(ImageToEmbed(content=content, field=field))
        inputs += [TextToEmbed(text=text, field=f"texts[{index}]") for index, text in enumerate(texts)]
        answer = await self._models.run(ImageEmbedder, "EmbedImage", request.model, inputs, context)
        embeddings = [_embedding(each) for each in answer.outputs]
        count = len(request.images)
        return vision_pb2.EmbedImageResponse(
            image_embeddings=embeddings[:count],
            text_embeddings=embeddings[count:],
            served_by=answer.served_by,
        )


def _image(field: str, image: vision_pb2.Image) -> tuple[bytes, str]:
    """An image's bytes, and the path of the field that holds them."""
    source = image.WhichOneof("source")
    return fields.media(field, source, image.content, image.uri), f"{field}.{source}"


def _embedding(embedded: Embedded) -> vision_pb2.Embedding:
    return vision_pb2.Embedding(values=embedded.vector.tolist(), truncated=embedded.truncated)
