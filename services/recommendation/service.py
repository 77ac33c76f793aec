"""Answers RecommendationService: protos to queries, histories from Redis, and back."""

from __future__ import annotations

import os
import time
from typing import Any

import grpc
from google.protobuf import timestamp_pb2

from meshwork.errors import InvalidArgument
from meshwork.recommendation.v1 import recommendation_pb2 as pb
from meshwork.recommendation.v1 import recommendation_pb2_grpc
from meshwork.server import ServiceContext
from meshwork.serving import fields
from services.recommendation.histories import DAY_S, Histories, Limits, Taken
from services.recommendation.tasks.recommend import Alike, Next, Query, Recommendations, Recommender, Wish

MAX_COUNT = 1000
MAX_EVENTS = 1000
MAX_HISTORY = 1000
MAX_EXCLUDED = 10_000
MAX_CATEGORIES = 1000
LONGEST_NAME = 256
LONGEST_REQUEST_ID = 128


class RecommendationService(recommendation_pb2_grpc.RecommendationServiceServicer):
    """The servicer."""

    def __init__(self, context: ServiceContext) -> None:
        self._models = context.models
        limits = Limits.from_environment(os.environ)
        self._histories = Histories(context.redis, context.keys, limits)

    async def RecordEvents(
        self, request: pb.RecordEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecordEventsResponse:
        """Adds events to the users' histories."""
        if not 1 <= len(request.events) <= MAX_EVENTS:
            raise InvalidArgument(
                f"should have 1 to {MAX_EVENTS} entries, not {len(request.events)}", field="events"
            )
        now_us = time.time_ns() // 1000
        events = [_taken(event, f"events[{index}]", now_us) for index, event in enumerate(request.events)]
        if request.request_id:
            fields.text("request_id", request.request_id, longest=LONGEST_REQUEST_ID)
        loaded = await self._models.acquire(Recommender, "RecordEvents", request.model, context)
        unknown = {event.item for event in events if not loaded.task.knows(event.item)}
        await self._histories.record(events, request.request_id, unknown)
        return pb.RecordEventsResponse(recorded_count=len(events), served_by=loaded.served_by())

    async def Recommend(
        self, request: pb.RecommendRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecommendResponse:
        """Ranks the catalogue for a user or a list of items."""
        wish = _wish(request.count, request.filter)
        match request.WhichOneof("subject"):
            case "user":
                user = fields.text("user", request.user, longest=LONGEST_NAME)
                # Before Redis is asked, so that a wrong model is told as such.
                await self._models.acquire(Recommender, "Recommend", request.model, context)
                history = await self._histories.of(user)
            case "history":
                items = request.history.items
                history = fields.texts("history.items", items, most=MAX_HISTORY, longest=LONGEST_NAME)
            case None:
                raise InvalidArgument(
                    "set user (whose events were recorded) or history (a list of items)", field="subject"
                )
        query = Next(history=tuple(history), include_seen=request.include_seen, wish=wish)
        answer = await self._models.run(Recommender, "Recommend", request.model, [query], context)
        found = answer.outputs[0]
        return pb.RecommendResponse(
            items=_items(found), history_size=found.history_size, served_by=answer.served_by
        )

    async def SimilarItems(
        self, request: pb.SimilarItemsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SimilarItemsResponse:
        """Ranks the catalogue by likeness to an item."""
        wish = _wish(request.count, request.filter)
        item = fields.text("item", request.item, longest=LONGEST_NAME)
        loaded = await self._models.acquire(Recommender, "SimilarItems", request.model, context)
        # Known items need no Redis, and are answered without it.
        neighbours = {} if loaded.task.knows(item) else await self._histories.taken_before(item)
        query: Query = Alike(item=item, neighbours=neighbours, wish=wish)
        answer = await self._models.run(Recommender, "SimilarItems", request.model, [query], context)
        return pb.SimilarItemsResponse(items=_items(answer.outputs[0]), served_by=answer.served_by)


def _taken(event: pb.Event, field: str, now_us: int) -> Taken:
    user = fields.text(f"{field}.user", event.user, longest=LONGEST_NAME)
    item = fields.text(f"{field}.item", event.item, longest=LONGEST_NAME)
    time_us = None
    if event.HasField("event_time"):
        time_us = _microseconds(event.event_time, f"{field}.event_time", now_us)
    return Taken(user, item, time_us)


def _microseconds(when: timestamp_pb2.Timestamp, field: str, now_us: int) -> int:
    if not 0 <= when.nanos < 1_000_000_000:
        raise InvalidArgument(f"nanos should be from 0 to 999999999, not {when.nanos}", field=field)
    microseconds = when.seconds * 1_000_000 + when.nanos // 1000
    # A day of grace for clocks; what lies further ahead would stay the latest event for ever.
    if not 0 <= microseconds <= now_us + DAY_S * 1_000_000:
        raise InvalidArgument("should lie between 1970 and now", field=field)
    return microseconds


def _wish(count: int, wanted: pb.ItemFilter) -> Wish:
    return Wish(
        count=fields.count("count", count, default=10, high=MAX_COUNT),
        categories=tuple(
            fields.texts(
                "filter.categories", wanted.categories, fewest=0, most=MAX_CATEGORIES, longest=LONGEST_NAME
            )
        ),
        excluded=frozenset(
            fields.texts(
                "filter.excluded_items",
                wanted.excluded_items,
                fewest=0,
                most=MAX_EXCLUDED,
                longest=LONGEST_NAME,
            )
        ),
    )


def _items(found: Recommendations) -> list[pb.RecommendedItem]:
    return [
        pb.RecommendedItem(item=each.id, title=each.title, category=each.category, score=each.score)
        for each in found.items
    ]
