from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from meshwork.admin.v1 import admin_pb2
from meshwork.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import connect
from meshwork.state.events import Events
from meshwork.state.keys import Keys
from meshwork.state.wishes import Wish, Wishes
from services.router.admin import AdminService
from tests.unit.contexts import FakeContext

KEYS = Keys(mesh="test")
CONTEXT: Any = FakeContext()


def replica(service: str, *models: str) -> router_pb2.Replica:
    found = [model.split("@") for model in models]
    return router_pb2.Replica(
        name=f"{service}-1",
        service=service,
        models=[
            router_pb2.Model(name=name, version=version, service=service, state=router_pb2.MODEL_STATE_READY)
            for name, version in found
        ],
    )


REPLICAS = [replica("nlp", "tone@1", "tone@2", "both@1"), replica("vision", "digits@1", "both@1")]


def nothing(request: admin_pb2.GetDiscoveryRequest) -> admin_pb2.GetDiscoveryResponse:
    return admin_pb2.GetDiscoveryResponse()


@pytest.fixture
def admin(redis: Redis) -> AdminService:
    return AdminService(redis, KEYS, ["nlp", "vision"], lambda: REPLICAS, nothing)


def request(**fields: Any) -> admin_pb2.AddModelRequest:
    return admin_pb2.AddModelRequest(**{"name": "new", "service": "nlp", "source": "/models/new", **fields})


async def the_wish(redis: Redis) -> Wish:
    (wish,) = (await Wishes(redis, KEYS).all()).values()
    return wish


async def test_a_model_to_add_is_written_down_for_its_replicas(admin: AdminService, redis: Redis) -> None:
    answer = await admin.AddModel(request(precision="bfloat16", parameters='{"pooling": "cls"}'), CONTEXT)
    wish = await the_wish(redis)
    assert answer.replica_count == 1
    assert (wish.service, wish.name, wish.state) == ("nlp", "new", "loaded")
    assert wish.config is not None
    assert wish.config.parameters == {"pooling": "cls"}


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("service", {"service": "zebra"}),
        ("name", {"name": ""}),
        ("name", {"name": "No Spaces"}),
        ("source", {"source": ""}),
        ("version", {"version": "@"}),
        ("parameters", {"parameters": "{"}),
        ("parameters", {"parameters": "[1]"}),
        ("engine", {"engine": "steam"}),
        ("precision", {"precision": "int3"}),
        ("tolerance", {"tolerance": -1.0}),
        ("tolerance", {"tolerance": float("nan")}),
        ("device", {"device": "gpu please"}),
        ("device", {"device": "cpu:0,cpu:0"}),
    ],
)
async def test_a_wrong_field_is_named(
    admin: AdminService, redis: Redis, field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as error:
        await admin.AddModel(request(**fields), CONTEXT)
    assert error.value.field == field
    assert await Wishes(redis, KEYS).all() == {}


async def test_a_version_that_is_there_cannot_be_added_again(admin: AdminService) -> None:
    with pytest.raises(FailedPrecondition, match="another"):
        await admin.AddModel(request(name="tone", version="2"), CONTEXT)
    await admin.AddModel(request(name="tone", version="3"), CONTEXT)


async def test_what_is_asked_of_models_is_written_down(admin: AdminService, redis: Redis) -> None:
    await admin.AddModel(request(version="3"), CONTEXT)
    await admin.LoadModel(admin_pb2.LoadModelRequest(name="digits"), CONTEXT)
    await admin.UnloadModel(admin_pb2.UnloadModelRequest(name="tone"), CONTEXT)
    await admin.RemoveModel(admin_pb2.RemoveModelRequest(name="tone@1"), CONTEXT)
    events = await Events(redis, KEYS).recent(10)
    assert {event.kind for event in events} == {router_pb2.EVENT_KIND_OPERATOR}
    assert [(event.service, event.subject, event.message) for event in reversed(events)] == [
        ("nlp", "new@3", "asked to be added, from /models/new"),
        ("vision", "digits@1", "asked to be loaded"),
        ("nlp", "tone@2", "asked to be unloaded"),
        ("nlp", "tone@1", "asked to be removed"),
    ]


async def test_a_name_alone_means_its_newest_version(admin: AdminService, redis: Redis) -> None:
    answer = await admin.UnloadModel(admin_pb2.UnloadModelRequest(name="tone"), CONTEXT)
    assert (answer.service, answer.model) == ("nlp", "tone@2")
    assert (await the_wish(redis)).model == "tone@2"


async def test_what_was_added_keeps_its_source_when_it_is_unloaded(admin: AdminService, redis: Redis) -> None:
    source = Wish(service="nlp", name="tone", state="loaded", config=None)
    await Wishes(redis, KEYS).make(source)
    await admin.UnloadModel(admin_pb2.UnloadModelRequest(name="tone@2"), CONTEXT)
    assert (await the_wish(redis)).key == source.key


async def test_a_name_in_two_services_needs_its_service(admin: AdminService) -> None:
    with pytest.raises(InvalidArgument, match="nlp and of vision"):
        await admin.RemoveModel(admin_pb2.RemoveModelRequest(name="both"), CONTEXT)
    answer = await admin.RemoveModel(admin_pb2.RemoveModelRequest(name="both", service="vision"), CONTEXT)
    assert answer.service == "vision"


async def test_an_unknown_model_is_not_found_and_those_there_are_listed(admin: AdminService) -> None:
    with pytest.raises(ModelNotFound, match="tone@1"):
        await admin.LoadModel(admin_pb2.LoadModelRequest(name="zebra"), CONTEXT)


async def test_without_redis_nothing_is_promised() -> None:
    away = connect("redis://127.0.0.1:1")
    admin = AdminService(away, KEYS, ["nlp"], lambda: REPLICAS, nothing)
    with pytest.raises(Unavailable, match="Redis"):
        await admin.AddModel(request(), CONTEXT)
    await away.aclose()
