"""VectorService as any service is made; `python -m benchmarks.vector` runs a replica of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from benchmarks.vector.as_done import as_done
from benchmarks.vector.contract import SERVICE, PredictManyResponse, PredictResponse
from benchmarks.vector.product import Product
from meshwork.server import ServiceContext, ServiceSpec

SPEC = ServiceSpec(
    name="vector",
    full_name=SERVICE,
    tasks={"product": "benchmarks.vector.product:Product"},
    servicer="benchmarks.vector.service:VectorService",
)
MOST_AT_WORK = 256  # requests of one stream


class VectorService:
    """Answers with the products of its replica's model."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models

    async def Predict(self, request: Any, context: Any) -> Any:
        """The product of one vector."""
        answer = await self._models.run(Product, "Predict", request.model, [request.content], context)
        return PredictResponse(scores=answer.outputs[0], served_by=answer.served_by, id=request.id)

    async def PredictMany(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """The products of a stream of vectors, each message with all that are done by then."""

        async def one(request: Any) -> Any:
            return await self.Predict(request, context)

        async with aclosing(as_done(requests, lambda many: many.requests, one, MOST_AT_WORK)) as bundles:
            async for bundle in bundles:
                yield PredictManyResponse(responses=bundle)
