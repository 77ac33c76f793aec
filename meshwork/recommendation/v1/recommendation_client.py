"""Typed clients of `meshwork.recommendation.v1`. Generated from meshwork/recommendation/v1/recommendation.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.recommendation.v1 import recommendation_pb2 as pb


class RecommendationClient(calls.SyncService):
    """Recommends items."""

    FULL_NAME = "meshwork.recommendation.v1.RecommendationService"

    def record_events(
        self,
        events: Sequence[pb.Event],
        *,
        model: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecordEventsResponse:
        """Remembers what users did; the next Recommend for them takes it into account.

        Safe to repeat with the same `request_id`, which is remembered for a day.

        Args:
            events: The events, 1 to 1000 of them.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            request_id: Names this request, so that a retry of it records nothing twice: a UUID
                for example, at most 128 characters. Empty means that a retry records again.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecordEventsRequest(
            events=events,
            model=model,
            request_id=request_id or calls.new_request_id(),
        )
        return self._unary("RecordEvents", request, pb.RecordEventsResponse, timeout_s, metadata)

    def recommend(
        self,
        *,
        model: str = "",
        user: str | None = None,
        history: pb.ItemList | None = None,
        count: int = 0,
        include_seen: bool = False,
        filter: pb.ItemFilter | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecommendResponse:
        """Recommends items to a user, or to whoever has a given list of items.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            user: A user whose events were recorded; one without any gets what is popular.
            history: What somebody took so far, in place of a recorded history.
            count: The most items to return, from 1 to 1000. Unset or 0 means 10.
            include_seen: True to return items of the history too. By default they are left out.
            filter: Which items may be returned.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecommendRequest(
            model=model,
            user=user,  # type: ignore[arg-type]
            history=history,
            count=count,
            include_seen=include_seen,
            filter=filter,
        )
        return self._unary("Recommend", request, pb.RecommendResponse, timeout_s, metadata)

    def similar_items(
        self,
        item: str,
        *,
        model: str = "",
        count: int = 0,
        filter: pb.ItemFilter | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.SimilarItemsResponse:
        """Lists the items that are most like an item.

        Args:
            item: The item's identifier.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            count: The most items to return, from 1 to 1000. Unset or 0 means 10.
            filter: Which items may be returned.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.SimilarItemsRequest(
            item=item,
            model=model,
            count=count,
            filter=filter,
        )
        return self._unary("SimilarItems", request, pb.SimilarItemsResponse, timeout_s, metadata)


class AsyncRecommendationClient(calls.AsyncService):
    """Recommends items."""

    FULL_NAME = "meshwork.recommendation.v1.RecommendationService"

    async def record_events(
        self,
        events: Sequence[pb.Event],
        *,
        model: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecordEventsResponse:
        """Remembers what users did; the next Recommend for them takes it into account.

        Safe to repeat with the same `request_id`, which is remembered for a day.

        Args:
            events: The events, 1 to 1000 of them.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            request_id: Names this request, so that a retry of it records nothing twice: a UUID
                for example, at most 128 characters. Empty means that a retry records again.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecordEventsRequest(
            events=events,
            model=model,
            request_id=request_id or calls.new_request_id(),
        )
        return await self._unary("RecordEvents", request, pb.RecordEventsResponse, timeout_s, metadata)

    async def recommend(
        self,
        *,
        model: str = "",
        user: str | None = None,
        history: pb.ItemList | None = None,
        count: int = 0,
        include_seen: bool = False,
        filter: pb.ItemFilter | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RecommendResponse:
        """Recommends items to a user, or to whoever has a given list of items.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            user: A user whose events were recorded; one without any gets what is popular.
            history: What somebody took so far, in place of a recorded history.
            count: The most items to return, from 1 to 1000. Unset or 0 means 10.
            include_seen: True to return items of the history too. By default they are left out.
            filter: Which items may be returned.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RecommendRequest(
            model=model,
            user=user,  # type: ignore[arg-type]
            history=history,
            count=count,
            include_seen=include_seen,
            filter=filter,
        )
        return await self._unary("Recommend", request, pb.RecommendResponse, timeout_s, metadata)

    async def similar_items(
        self,
        item: str,
        *,
        model: str = "",
        count: int = 0,
        filter: pb.ItemFilter | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.SimilarItemsResponse:
        """Lists the items that are most like an item.

        Args:
            item: The item's identifier.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            count: The most items to return, from 1 to 1000. Unset or 0 means 10.
            filter: Which items may be returned.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.SimilarItemsRequest(
            item=item,
            model=model,
            count=count,
            filter=filter,
        )
        return await self._unary("SimilarItems", request, pb.SimilarItemsResponse, timeout_s, metadata)
