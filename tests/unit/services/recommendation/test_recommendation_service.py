import asyncio
import time
from typing import Any

import pytest

from meshwork.errors import InvalidArgument, ModelNotFound, NotFound, Unavailable
from meshwork.recommendation.v1 import recommendation_pb2 as pb
from services.recommendation.service import RecommendationService
from tests.unit.contexts import FakeContext

SERIES = "the-lonely-robot"
LONG = "x" * 257


CALLER: Any = FakeContext()


async def record(
    service: RecommendationService, user: str, *items: str, request_id: str = ""
) -> pb.RecordEventsResponse:
    events = [pb.Event(user=user, item=item) for item in items]
    return await service.RecordEvents(pb.RecordEventsRequest(events=events, request_id=request_id), CALLER)


async def recommend(service: RecommendationService, **fields: Any) -> pb.RecommendResponse:
    return await service.Recommend(pb.RecommendRequest(**fields), CALLER)


async def similar(service: RecommendationService, **fields: Any) -> pb.SimilarItemsResponse:
    return await service.SimilarItems(pb.SimilarItemsRequest(**fields), CALLER)


async def test_an_event_changes_the_next_recommendation(service: RecommendationService) -> None:
    before = await recommend(service, user="ann")
    assert (before.history_size, len(before.items)) == (0, 10)
    recorded = await record(service, "ann", SERIES)
    assert recorded.recorded_count == 1
    assert (recorded.served_by.model, recorded.served_by.version) == ("sequence", "1")
    after = await recommend(service, user="ann")
    assert after.history_size == 1
    assert after.items[0].item == f"{SERIES}-2"
    assert after.items[0].title == "The Lonely Robot, volume 2"
    assert after.items[0].category == "science-fiction"
    await record(service, "ann", f"{SERIES}-2")
    assert (await recommend(service, user="ann")).items[0].item == f"{SERIES}-3"


async def test_a_user_and_the_list_of_their_items_get_the_same(service: RecommendationService) -> None:
    await record(service, "ann", "the-blue-startup", SERIES, "the-hidden-painter")
    history = pb.ItemList(items=["the-blue-startup", SERIES, "the-hidden-painter"])
    by_list = await recommend(service, history=history)
    assert list((await recommend(service, user="ann")).items) == list(by_list.items)


async def test_events_count_by_their_time_and_not_by_their_arrival(service: RecommendationService) -> None:
    late, early = pb.Event(user="ann", item="the-blue-startup"), pb.Event(user="ann", item=SERIES)
    late.event_time.FromSeconds(1_700_000_100)
    early.event_time.FromSeconds(1_700_000_000)
    await service.RecordEvents(pb.RecordEventsRequest(events=[late, early]), CALLER)
    by_list = await recommend(service, history=pb.ItemList(items=[SERIES, "the-blue-startup"]))
    assert list((await recommend(service, user="ann")).items) == list(by_list.items)


async def test_retries_answer_alike_and_record_once(service: RecommendationService) -> None:
    tries = [record(service, "ann", SERIES, "new", request_id="r") for _ in range(5)]
    answers = await asyncio.gather(*tries)
    assert [answer.recorded_count for answer in answers] == [2] * 5
    with pytest.raises(InvalidArgument, match="request_id"):
        await record(service, "ann", "the-blue-startup", request_id="r")
    assert (await recommend(service, user="ann")).history_size == 1


async def test_a_user_of_unknown_items_only_gets_what_is_popular(service: RecommendationService) -> None:
    await record(service, "ann", "new", "newer")
    popular = await recommend(service, user="nobody")
    answer = await recommend(service, user="ann")
    assert answer.history_size == 0
    assert list(answer.items) == list(popular.items)


async def test_similar_items_of_an_unknown_item_come_from_its_events(service: RecommendationService) -> None:
    with pytest.raises(NotFound, match="new"):
        await similar(service, item="new")
    await record(service, "ann", SERIES, f"{SERIES}-2", "new")
    answer = await similar(service, item="new", count=3)
    assert len(answer.items) == 3
    assert {item.category for item in answer.items} == {"science-fiction"}
    assert answer.served_by.batch_size == 1


async def test_without_redis_what_needs_none_goes_on(cut_off: RecommendationService) -> None:
    assert (await recommend(cut_off, history=pb.ItemList(items=[SERIES]))).history_size == 1
    assert (await similar(cut_off, item=SERIES)).items
    for call in (
        recommend(cut_off, user="ann"),
        record(cut_off, "ann", SERIES),
        similar(cut_off, item="new"),
    ):
        with pytest.raises(Unavailable, match="histories can't be reached"):
            await call


async def test_count_filter_and_seen_are_passed_on(service: RecommendationService) -> None:
    wanted = pb.ItemFilter(categories=["poetry"], excluded_items=["the-hidden-silence"])
    answer = await recommend(
        service, history=pb.ItemList(items=["the-silent-moon"]), count=1000, include_seen=True, filter=wanted
    )
    found = [item.item for item in answer.items]
    assert len(found) == 99
    assert "the-silent-moon" in found
    assert {item.category for item in answer.items} == {"poetry"}
    assert len((await similar(service, item=SERIES, count=7, filter=wanted)).items) == 7


async def test_an_unknown_model_is_not_found(service: RecommendationService) -> None:
    event = pb.Event(user="ann", item=SERIES)
    with pytest.raises(ModelNotFound, match="sequence@1"):
        await service.RecordEvents(pb.RecordEventsRequest(model="magic", events=[event]), CALLER)
    with pytest.raises(ModelNotFound):
        await recommend(service, model="magic", user="ann")
    with pytest.raises(ModelNotFound):
        await similar(service, model="sequence@2", item=SERIES)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecordEventsRequest(), "events"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u", item="i")] * 1001), "events"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u", item="i"), pb.Event(item="i")]), "events[1].user"),
        (pb.RecordEventsRequest(events=[pb.Event(user=" \t", item="i")]), "events[0].user"),
        (pb.RecordEventsRequest(events=[pb.Event(user=LONG, item="i")]), "events[0].user"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u")]), "events[0].item"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u", item=LONG)]), "events[0].item"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u", item="i")], request_id="r" * 129), "request_id"),
        (pb.RecordEventsRequest(events=[pb.Event(user="u", item="i")], request_id=" "), "request_id"),
        (pb.RecommendRequest(), "subject"),
        (pb.RecommendRequest(user=""), "user"),
        (pb.RecommendRequest(user=LONG), "user"),
        (pb.RecommendRequest(history=pb.ItemList()), "history.items"),
        (pb.RecommendRequest(history=pb.ItemList(items=["i"] * 1001)), "history.items"),
        (pb.RecommendRequest(history=pb.ItemList(items=["i", ""])), "history.items[1]"),
        (pb.RecommendRequest(user="u", count=-1), "count"),
        (pb.RecommendRequest(user="u", count=1001), "count"),
        (
            pb.RecommendRequest(user="u", filter=pb.ItemFilter(categories=["knitting"])),
            "filter.categories[0]",
        ),
        (pb.RecommendRequest(user="u", filter=pb.ItemFilter(categories=[""])), "filter.categories[0]"),
        (
            pb.RecommendRequest(user="u", filter=pb.ItemFilter(excluded_items=[LONG])),
            "filter.excluded_items[0]",
        ),
        (pb.SimilarItemsRequest(), "item"),
        (pb.SimilarItemsRequest(item=LONG), "item"),
        (pb.SimilarItemsRequest(item=SERIES, count=-5), "count"),
        (
            pb.SimilarItemsRequest(item=SERIES, filter=pb.ItemFilter(categories=["\0"])),
            "filter.categories[0]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_field_is_named(service: RecommendationService, request_: Any, field: str) -> None:
    method = type(request_).__name__.removesuffix("Request")
    with pytest.raises(InvalidArgument) as refused:
        await getattr(service, method)(request_, CALLER)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(-1, 0), (int(time.time()) + 200_000, 0), (253_402_300_799, 0), (2**62, 0), (1, -1), (1, 1_000_000_000)],
)
async def test_an_event_that_lies_nowhere_in_time_is_refused(
    service: RecommendationService, seconds: int, nanos: int
) -> None:
    event = pb.Event(user="u", item="i")
    event.event_time.seconds, event.event_time.nanos = seconds, nanos
    with pytest.raises(InvalidArgument, match=r"1970|nanos") as refused:
        await service.RecordEvents(pb.RecordEventsRequest(events=[event]), CALLER)
    assert refused.value.field == "events[0].event_time"


async def test_a_refused_request_records_nothing(service: RecommendationService) -> None:
    events = [pb.Event(user="ann", item=SERIES), pb.Event(user="ann", item="")]
    with pytest.raises(InvalidArgument):
        await service.RecordEvents(pb.RecordEventsRequest(events=events), CALLER)
    assert (await recommend(service, user="ann")).history_size == 0


@pytest.mark.parametrize("user", ["\0", "a:b", "*", "meshwork:default:leases", "日本語", "'; FLUSHALL"])
async def test_a_user_of_any_name_is_served(service: RecommendationService, user: str) -> None:
    await record(service, user, SERIES)
    assert (await recommend(service, user=user)).history_size == 1
    assert (await recommend(service, user=f"{user}.")).history_size == 0
