import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from meshwork.xds.ads import AdsService, ClientState
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.delta import (
    DeltaRequest,
    DeltaResponse,
    encode_delta_request,
    encode_delta_response,
    parse_delta_request,
    parse_delta_response,
)
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from meshwork.xds.wire import (
    ADS_METHOD,
    DELTA_METHOD,
    Node,
    Request,
    Response,
    encode_request,
    encode_response,
    parse_request,
    parse_response,
)


def snapshot(*clusters: str, routes: bytes = b"", complete: bool = True, config: bytes = b"") -> Snapshot:
    return Snapshot(
        {
            CLUSTER: [Resource(name, name.encode() + config) for name in clusters],
            ENDPOINTS: [Resource(name, name.encode()) for name in clusters],
            LISTENER: [Resource("gateway", b"listener")],
            ROUTES: [Resource("gateway", routes)],
        },
        complete=complete,
    )


class Envoy:
    """Asks and accepts as Envoy does; writes down what it is sent."""

    def __init__(self, *, incremental: bool = False, version: str = "") -> None:
        self.state = ClientState(incremental=incremental)
        self.log: list[tuple[str, tuple[bytes, ...]]] = []
        for kind, names in ((CLUSTER, ()), (LISTENER, ()), (ENDPOINTS, ("a", "b")), (ROUTES, ("gateway",))):
            if incremental:
                versions = {"old": version} if version else {}
                self.state.take(
                    DeltaRequest(type_url=kind, subscribe=names, versions=versions, node=Node(id="envoy"))
                )
            else:
                self.state.take(Request(type_url=kind, names=names, version=version, node=Node(id="envoy")))

    def settle(self, current: Snapshot, generation: int = 1) -> list[tuple[str, tuple[bytes, ...]]]:
        """What it is sent until it has all; of what is removed, the names."""
        self.log = []
        while (response := self.state.next(current, generation)) is not None:
            kind = response.type_url.rpartition(".")[2]
            if isinstance(response, DeltaResponse):
                bodies = tuple(each.body for each in response.resources)
                self.log.append((kind, bodies + tuple(f"-{name}".encode() for name in response.removed)))
                self.state.take(DeltaRequest(type_url=response.type_url, nonce=response.nonce))
                continue
            self.log.append((kind, response.bodies))
            names = tuple(sorted(self.state.subscriptions[response.type_url].names))
            self.state.take(
                Request(type_url=response.type_url, names=names, nonce=response.nonce, version="x")
            )
        return self.log


def kinds(log: list[tuple[str, tuple[bytes, ...]]]) -> list[str]:
    return [kind for kind, _ in log]


both = pytest.mark.parametrize("incremental", [False, True], ids=["whole", "incremental"])


@both
def test_what_a_route_names_is_sent_before_the_route(incremental: bool) -> None:
    order = ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"]
    assert kinds(Envoy(incremental=incremental).settle(snapshot("a", "b"))) == order


@both
def test_a_cluster_goes_only_after_the_routes_have_left_it(incremental: bool) -> None:
    envoy = Envoy(incremental=incremental)
    envoy.settle(snapshot("a", routes=b"to a"))
    log = envoy.settle(snapshot("b", routes=b"to b"), 2)
    assert log[0] == ("Cluster", (b"b",) if incremental else (b"a", b"b"))
    assert kinds(log).index("RouteConfiguration") < len(log) - 1
    assert log[-1][1] == ((b"-a",) if incremental else (b"b",))
    assert envoy.state.generation == 2


@both
def test_endpoints_follow_a_cluster_whose_settings_changed_though_they_did_not(incremental: bool) -> None:
    envoy = Envoy(incremental=incremental)
    envoy.settle(snapshot("a", "b"))
    log = envoy.settle(snapshot("a", "b", config=b"new"), 2)
    assert kinds(log) == ["Cluster", "ClusterLoadAssignment"]


@both
def test_one_that_changed_is_sent_alone(incremental: bool) -> None:
    envoy, before = Envoy(incremental=incremental), snapshot("a", "b")
    envoy.settle(before)
    after = before.replace({ENDPOINTS: {"b": Resource("b", b"another host")}})
    assert envoy.settle(after, 2) == [("ClusterLoadAssignment", (b"another host",))]


@both
def test_a_client_that_has_something_loses_nothing_to_an_incomplete_snapshot(incremental: bool) -> None:
    knowing, fresh = Envoy(incremental=incremental, version="1"), Envoy(incremental=incremental)
    assert knowing.settle(snapshot(complete=False)) == []
    assert fresh.settle(snapshot(complete=False)) != []
    assert kinds(knowing.settle(snapshot("a"), 2))[0] == "Cluster"


def test_endpoints_of_a_new_cluster_are_sent_though_the_client_has_not_replied_to_the_cluster() -> None:
    state = ClientState()
    state.take(Request(type_url=CLUSTER))
    state.take(Request(type_url=ROUTES, names=("gateway",)))
    assert state.next(snapshot("a"), 1) is not None
    state.take(Request(type_url=ENDPOINTS, names=("a",)))
    response = state.next(snapshot("a"), 1)
    assert response is not None
    assert response.type_url == ENDPOINTS
    assert state.next(snapshot("a"), 1) is None


def test_a_client_that_is_always_a_snapshot_behind_is_known_to_have_taken_those_before() -> None:
    state = ClientState(incremental=True)
    state.take(DeltaRequest(type_url=CLUSTER))
    current = snapshot("a")
    response = state.next(current, 1)
    for generation in range(2, 6):
        current = current.replace({CLUSTER: {"a": Resource("a", b"%d" % generation)}})
        assert state.next(current, generation) is None  # it owes a reply
        assert response is not None
        state.take(DeltaRequest(type_url=CLUSTER, nonce=response.nonce))
        response = state.next(current, generation)
        assert state.generation == generation - 1


def test_a_rejection_is_told_and_kept_visible(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str, list[str], str]] = []
    state = ClientState(on_reject=lambda *call: told.append((call[0].node.id, call[1], [*call[2]], call[3])))
    state.take(Request(type_url=CLUSTER, node=Node(id="envoy")))
    response = state.next(snapshot("a"), 1)
    assert response is not None
    state.take(Request(type_url=CLUSTER, nonce=response.nonce, error="no such policy"))
    assert state.rejections() == {CLUSTER: "no such policy"}
    assert told == [("envoy", CLUSTER, ["a"], "no such policy")]
    assert "envoy rejects its Cluster a: no such policy" in caplog.text
    assert state.next(snapshot("a"), 1) is None
    assert state.generation == 1  # it has what it will take


def test_requests_and_responses_are_read_as_they_were_written() -> None:
    request = Request(
        type_url=CLUSTER,
        version="1",
        names=("a",),
        nonce="2",
        error="e",
        node=Node(id="i", cluster="c", user_agent="envoy"),
    )
    assert parse_request(encode_request(request)) == request
    response = Response(type_url=CLUSTER, version="1", nonce="2", bodies=(b"a", b""))
    assert parse_response(encode_response(response)) == response
    changes = DeltaRequest(
        type_url=CLUSTER,
        subscribe=("a",),
        unsubscribe=("b",),
        versions={"c": "1"},
        nonce="2",
        error="e",
        node=Node(id="i"),
    )
    assert parse_delta_request(encode_delta_request(changes)) == changes
    changed = DeltaResponse(
        type_url=CLUSTER, version="1", nonce="2", resources=(Resource("a", b"A"),), removed=("b",)
    )
    assert parse_delta_response(encode_delta_response(changed)) == changed


@pytest.fixture
async def served() -> AsyncIterator[tuple[SnapshotCache, AdsService, grpc.aio.Channel]]:
    cache = SnapshotCache(snapshot("a"))
    service = AdsService(cache)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield cache, service, channel
    await server.stop(None)


async def test_a_published_snapshot_reaches_the_client_and_is_taken(
    served: tuple[SnapshotCache, AdsService, grpc.aio.Channel],
) -> None:
    cache, service, channel = served
    call = channel.stream_stream(ADS_METHOD)()
    await call.write(encode_request(Request(type_url=CLUSTER, node=Node(id="envoy"))))
    first = parse_response(await call.read())
    assert first.bodies == (b"a",)
    await call.write(encode_request(Request(type_url=CLUSTER, nonce=first.nonce, version=first.version)))
    generation = cache.publish(snapshot("a", "b"))
    second = parse_response(await call.read())
    assert second.bodies == (b"a", b"b")
    taken = asyncio.create_task(cache.taken(generation))
    await asyncio.sleep(0)
    assert not taken.done()
    await call.write(encode_request(Request(type_url=CLUSTER, nonce=second.nonce, version=second.version)))
    await taken
    assert [client.node.id for client in service.clients] == ["envoy"]
    call.cancel()


async def test_a_stream_of_changes_carries_changes_only(
    served: tuple[SnapshotCache, AdsService, grpc.aio.Channel],
) -> None:
    cache, service, channel = served
    call = channel.stream_stream(DELTA_METHOD)()
    await call.write(encode_delta_request(DeltaRequest(type_url=CLUSTER, node=Node(id="envoy"))))
    first = parse_delta_response(await call.read())
    assert [each.name for each in first.resources] == ["a"]
    await call.write(encode_delta_request(DeltaRequest(type_url=CLUSTER, nonce=first.nonce)))
    cache.publish(snapshot("a", "b"))
    second = parse_delta_response(await call.read())
    assert [each.name for each in second.resources] == ["b"]
    assert [client.incremental for client in service.clients] == [True]
    call.cancel()


async def test_a_client_that_leaves_is_not_waited_for(
    served: tuple[SnapshotCache, AdsService, grpc.aio.Channel],
) -> None:
    cache, _, channel = served
    call = channel.stream_stream(ADS_METHOD)()
    await call.write(encode_request(Request(type_url=CLUSTER)))
    await call.read()
    generation = cache.publish(snapshot("b"))
    taken = asyncio.create_task(cache.taken(generation))
    await call.done_writing()
    await taken


async def test_garbage_ends_its_stream_only(
    served: tuple[SnapshotCache, AdsService, grpc.aio.Channel],
) -> None:
    _, _, channel = served
    broken = channel.stream_stream(ADS_METHOD)()
    await broken.write(b"\xff\xff\xff")
    assert await broken.read() is grpc.aio.EOF
    fine = channel.stream_stream(ADS_METHOD)()
    await fine.write(encode_request(Request(type_url=CLUSTER)))
    assert parse_response(await fine.read()).bodies == (b"a",)
    fine.cancel()
