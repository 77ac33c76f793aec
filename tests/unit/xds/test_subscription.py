from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from meshwork.xds.subscription import Subscription
from meshwork.xds.wire import Request


def snapshot(*names: str, body: bytes = b"") -> Snapshot:
    return Snapshot({kind: [Resource(name, body) for name in names] for kind in (CLUSTER, ENDPOINTS)})


def ask(*names: str, nonce: str = "", error: str = "", version: str = "", kind: str = CLUSTER) -> Request:
    return Request(type_url=kind, names=names, nonce=nonce, error=error, version=version)


def test_the_same_content_has_the_same_version_in_any_order() -> None:
    assert snapshot("a", "b").version == snapshot("b", "a").version
    assert snapshot("a").version != snapshot("a", body=b"x").version
    assert snapshot("a").version != snapshot("b").version


def test_a_first_request_without_names_gets_everything_that_is_listed() -> None:
    clusters = Subscription(CLUSTER)
    assert clusters.take(ask())
    hidden = Resource("hidden", b"h", listed=False)
    response = clusters.respond(Snapshot({CLUSTER: [Resource("a", b"A"), hidden]}))
    assert response is not None
    assert response.bodies == (b"A",)


def test_a_resource_that_is_not_listed_goes_to_who_names_it() -> None:
    listeners = Subscription(LISTENER)
    listeners.take(ask("hidden", kind=LISTENER))
    response = listeners.respond(Snapshot({LISTENER: [Resource("hidden", b"h", listed=False)]}))
    assert response is not None
    assert response.bodies == (b"h",)


def test_a_resource_with_an_audience_goes_only_to_the_client_of_that_node_id() -> None:
    one, other = (Resource(f"gateway/{port}", b"", audience=f"node {port}") for port in (1, 2))
    offered = Snapshot({LISTENER: [one, other, Resource("all", b"")]})
    for node, names in (("node 1", {"gateway/1", "all"}), ("node 3", {"all"})):
        listeners = Subscription(LISTENER, node)
        listeners.take(ask(kind=LISTENER))
        assert set(listeners.wanted(offered)) == names
    assert Resource("a", b"").version != Resource("a", b"", audience="b").version


def test_nothing_is_sent_while_a_reply_is_owed_nor_what_the_client_has() -> None:
    clusters = Subscription(CLUSTER)
    clusters.take(ask())
    first = clusters.respond(snapshot("a"))
    assert first is not None
    assert clusters.respond(snapshot("a", "b")) is None
    assert clusters.take(ask(nonce=first.nonce, version=first.version))
    second = clusters.respond(snapshot("a", "b"))
    assert second is not None
    clusters.take(ask(nonce=second.nonce))
    assert clusters.respond(snapshot("a", "b")) is None
    assert clusters.holds(snapshot("a", "b"))


def test_a_stale_request_is_ignored() -> None:
    clusters = Subscription(CLUSTER)
    clusters.take(ask())
    clusters.respond(snapshot("a"))
    assert not clusters.take(ask(nonce="0"))
    assert clusters.waiting


def test_a_rejected_response_is_remembered_and_not_sent_again() -> None:
    clusters = Subscription(CLUSTER)
    clusters.take(ask())
    first = clusters.respond(snapshot("a"))
    assert first is not None
    clusters.take(ask(nonce=first.nonce, error="bad cluster"))
    assert clusters.rejected == "bad cluster"
    assert clusters.respond(snapshot("a")) is None
    assert clusters.respond(snapshot("a", "b")) is not None


def test_asking_for_one_more_name_is_answered_though_it_does_not_exist() -> None:
    endpoints = Subscription(ENDPOINTS)
    endpoints.take(ask("a", kind=ENDPOINTS))
    first = endpoints.respond(snapshot("a"))
    assert first is not None
    endpoints.take(ask("a", "zzz", nonce=first.nonce, kind=ENDPOINTS))
    second = endpoints.respond(snapshot("a"))
    assert second is not None
    assert len(second.bodies) == 1


def test_no_names_means_nothing_for_endpoints_and_routes() -> None:
    for kind in (ENDPOINTS, ROUTES):
        named = Subscription(kind)
        named.take(ask(kind=kind))
        assert named.wanted(snapshot("a")) == {}


def test_what_left_the_snapshot_is_kept_until_released() -> None:
    clusters = Subscription(CLUSTER)
    clusters.take(ask())
    first = clusters.respond(snapshot("a", "b"))
    assert first is not None
    clusters.take(ask(nonce=first.nonce))
    clusters.retain(snapshot("b"))
    assert set(clusters.wanted(snapshot("b"))) == {"a", "b"}
    clusters.release()
    assert set(clusters.wanted(snapshot("b"))) == {"b"}


def test_what_left_and_came_back_is_the_new_one() -> None:
    clusters = Subscription(CLUSTER)
    clusters.take(ask())
    clusters.respond(snapshot("a"))
    clusters.retain(snapshot())
    clusters.retain(snapshot("a", body=b"new"))
    assert clusters.wanted(snapshot("a", body=b"new"))["a"].body == b"new"
    assert not clusters.retained
