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
        timeout_s: float | None = None,
    ) -> pb.ClassifyResponse:
        """Says what an image shows, as the classes that the model knows, most likely first.

        Args:
            image: The image to classify.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most classes to return, from 1 to 1000. Unset or 0 means 5.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyRequest(
            image=calls.media(pb.Image, image),
            model=model,
            top_k=top_k,
        )
        return self._unary("Classify", request, pb.ClassifyResponse, timeout_s)


class AsyncVisionClient(calls.AsyncService):
    """Answers questions about images."""

    FULL_NAME = "meshwork.vision.v1.VisionService"

    async def classify(
        self,
        image: calls.Media | pb.Image,
        *,
        model: str = "",
        top_k: int = 0,
        timeout_s: float | None = None,
    ) -> pb.ClassifyResponse:
        """Says what an image shows, as the classes that the model knows, most likely first.

        Args:
            image: The image to classify.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most classes to return, from 1 to 1000. Unset or 0 means 5.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyRequest(
            image=calls.media(pb.Image, image),
            model=model,
            top_k=top_k,
        )
        return await self._unary("Classify", request, pb.ClassifyResponse, timeout_s)
