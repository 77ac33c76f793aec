from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from meshwork import connect_async
from meshwork.calls import media
from meshwork.errors import Internal, InvalidArgument, Overloaded, from_rpc_error
from meshwork.front import make_server
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2, router_pb2_grpc
from meshwork.rpc import add_servicer
from meshwork.vision.v1 import vision_pb2


class Nlp(nlp_pb2_grpc.NlpServiceServicer):
    """Answers, refuses or breaks as its request says."""

    tries = 0

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: object) -> nlp_pb2.EmbedResponse:
        match request.texts[0]:
            case "refuse":
                raise InvalidArgument("should be kind", field="texts[0]")
            case "full":
                raise Overloaded("come back", retry_after_s=2.5)
            case "break":
                raise RuntimeError("the password is 1234")
        return nlp_pb2.EmbedResponse(embeddings=[nlp_pb2.Embedding(values=[1.0])])

    async def ClassifyText(self, request: object, context: object) -> None:
        raise AssertionError

    MatchTexts = ExtractEntities = AnswerQuestion = ClassifyText


class Router(router_pb2_grpc.RouterServiceServicer):
    """Streams two changes and breaks; lists in pages of one."""

    async def ListServices(
        self, request: router_pb2.ListServicesRequest, context: object
    ) -> router_pb2.ListServicesResponse:
        page = int(request.page_token or 0)
        return router_pb2.ListServicesResponse(
            services=[router_pb2.Service(name=str(page))], next_page_token=str(page + 1) if page < 2 else ""
        )

    ListReplicas = ListModels = ListServices

    async def Watch(self, request: object, context: object) -> AsyncIterator[router_pb2.WatchResponse]:
        yield router_pb2.WatchResponse(type=router_pb2.CHANGE_TYPE_ADDED)
        yield router_pb2.WatchResponse(type=router_pb2.CHANGE_TYPE_REMOVED)
        raise Overloaded("enough", retry_after_s=1)


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    server = make_server()
    add_servicer(server, "meshwork.nlp.v1.NlpService", Nlp())
    add_servicer(server, "meshwork.router.v1.RouterService", Router())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_an_answer_comes_typed(address: str) -> None:
    async with connect_async(address) as mesh:
        answer = await mesh.nlp.embed("hello")
    assert answer.embeddings[0].values == [1.0]


async def test_our_errors_reach_the_caller_with_their_facts(address: str) -> None:
    async with connect_async(address) as mesh:
        with pytest.raises(InvalidArgument) as refusal:
            await mesh.nlp.embed(["refuse"])
        with pytest.raises(Overloaded) as full:
            await mesh.nlp.embed(["full"])
    assert refusal.value.field == "texts[0]"
    assert full.value.retry_after_s == 2.5


async def test_a_defect_says_only_its_id(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with connect_async(address) as mesh:
        with pytest.raises(Internal) as defect:
            await mesh.nlp.embed(["break"])
    assert "1234" not in str(defect.value)
    assert "1234" not in str(defect.value.metadata)
    assert defect.value.metadata["id"] in caplog.text
    assert "1234" in caplog.text


@pytest.mark.parametrize("garbage", [b"\xff", b"\x12\xff\xff\xff\xff\x0f", b"\x00" * 9, b"\x12\x02\xff\xfe"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(address: str, garbage: bytes) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/meshwork.nlp.v1.NlpService/Embed")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(garbage)
    error = from_rpc_error(failure.value)
    assert isinstance(error, InvalidArgument)
    assert error.reason == "MALFORMED_MESSAGE"


async def test_a_stream_gives_what_it_has_and_then_its_error(address: str) -> None:
    seen = []
    async with connect_async(address) as mesh:
        with pytest.raises(Overloaded):
            async for change in mesh.router.watch():
                seen.append(change.type)  # noqa: PERF401 - what came before the error is the point
    assert seen == [router_pb2.CHANGE_TYPE_ADDED, router_pb2.CHANGE_TYPE_REMOVED]


async def test_lists_are_fetched_page_by_page(address: str) -> None:
    async with connect_async(address) as mesh:
        assert [service.name for service in await mesh.router.list_services()] == ["0", "1", "2"]


def test_media_comes_from_bytes_a_path_or_a_data_uri(tmp_path: object) -> None:
    assert media(vision_pb2.Image, b"x") == vision_pb2.Image(content=b"x")
    assert media(vision_pb2.Image, "data:image/png;base64,eA==") == vision_pb2.Image(
        uri="data:image/png;base64,eA=="
    )
    with pytest.raises(InvalidArgument, match="nowhere"):
        media(vision_pb2.Image, "nowhere.png")
