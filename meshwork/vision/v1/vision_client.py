"""Typed clients of `meshwork.vision.v1`. Generated from meshwork/vision/v1/vision.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.vision.v1 import vision_pb2 as pb


class VisionClient(calls.SyncService):
    """Answers questions about images."""

    FULL_NAME = "meshwork.vision.v1.VisionService"

    def classify(
        self,
        image: calls.Media | pb.Image,
        *,
        model: str = "",
        top_k: int = 0,
        labels: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ClassifyResponse:
        """Says what an image shows, most likely first.

        The classes are the model's own, or the labels that the caller gives.

        Args:
            image: The image to classify.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most classes to return, from 1 to 1000. Unset or 0 means 5.
            labels: Labels to choose from, 2 to 256 different ones, for a model that takes any
                (zero-shot). Unset means the model's own classes.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyRequest(
            image=calls.media(pb.Image, image),
            model=model,
            top_k=top_k,
            labels=calls.texts(labels),
        )
        return self._unary("Classify", request, pb.ClassifyResponse, timeout_s, metadata)

    def detect(
        self,
        image: calls.Media | pb.Image,
        *,
        model: str = "",
        min_score: float = 0.0,
        max_results: int = 0,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DetectResponse:
        """Finds the objects in an image: what each is, and the box around it.

        Args:
            image: The image to look at.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            min_score: Only objects that score more are returned, from 0 to 1. Unset or 0 means
                0.5.
            max_results: The most objects to return, from 1 to 1000. Unset or 0 means 100.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DetectRequest(
            image=calls.media(pb.Image, image),
            model=model,
            min_score=min_score,
            max_results=max_results,
        )
        return self._unary("Detect", request, pb.DetectResponse, timeout_s, metadata)

    def embed_image(
        self,
        *,
        model: str = "",
        images: calls.Media | pb.Image | Sequence[calls.Media | pb.Image] = (),
        texts: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.EmbedImageResponse:
        """Turns images and texts into unit vectors of one space.

        Their dot product says how well they match, so that images can be searched by a text or
        by another image.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            images: The images to embed, at most 64.
            texts: The texts to embed, at most 1024, none empty. Write them as captions ("a
                photo of a cat"), as the model learned from captions.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.EmbedImageRequest(
            model=model,
            images=calls.many_media(pb.Image, images),
            texts=calls.texts(texts),
        )
        return self._unary("EmbedImage", request, pb.EmbedImageResponse, timeout_s, metadata)


class AsyncVisionClient(calls.AsyncService):
    """Answers questions about images."""

    FULL_NAME = "meshwork.vision.v1.VisionService"

    async def classify(
        self,
        image: calls.Media | pb.Image,
        *,
        model: str = "",
        top_k: int = 0,
        labels: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ClassifyResponse:
        """Says what an image shows, most likely first.

        The classes are the model's own, or the labels that the caller gives.

        Args:
            image: The image to classify.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most classes to return, from 1 to 1000. Unset or 0 means 5.
            labels: Labels to choose from, 2 to 256 different ones, for a model that takes any
                (zero-shot). Unset means the model's own classes.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyRequest(
            image=calls.media(pb.Image, image),
            model=model,
            top_k=top_k,
            labels=calls.texts(labels),
        )
        return await self._unary("Classify", request, pb.ClassifyResponse, timeout_s, metadata)

    async def detect(
        self,
        image: calls.Media | pb.Image,
        *,
        model: str = "",
        min_score: float = 0.0,
        max_results: int = 0,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DetectResponse:
        """Finds the objects in an image: what each is, and the box around it.

        Args:
            image: The image to look at.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            min_score: Only objects that score more are returned, from 0 to 1. Unset or 0 means
                0.5.
            max_results: The most objects to return, from 1 to 1000. Unset or 0 means 100.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DetectRequest(
            image=calls.media(pb.Image, image),
            model=model,
            min_score=min_score,
            max_results=max_results,
        )
        return await self._unary("Detect", request, pb.DetectResponse, timeout_s, metadata)

    async def embed_image(
        self,
        *,
        model: str = "",
        images: calls.Media | pb.Image | Sequence[calls.Media | pb.Image] = (),
        texts: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.EmbedImageResponse:
        """Turns images and texts into unit vectors of one space.

        Their dot product says how well they match, so that images can be searched by a text or
        by another image.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            images: The images to embed, at most 64.
            texts: The texts to embed, at most 1024, none empty. Write them as captions ("a
                photo of a cat"), as the model learned from captions.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.EmbedImageRequest(
            model=model,
            images=calls.many_media(pb.Image, images),
            texts=calls.texts(texts),
        )
        return await self._unary("EmbedImage", request, pb.EmbedImageResponse, timeout_s, metadata)
