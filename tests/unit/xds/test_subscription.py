import pytest

from meshwork.xds.delta import DeltaRequest, DeltaResponse
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot, differences
from meshwork.xds.subscription import RESPONSE_BYTES, Subscription, named_in
from meshwork.xds.wire import Request, Response


def snapshot(*names: str, body: bytes = b"", **bodies: bytes) -> Snapshot:
    named = [Resource(name, body) for name in names] + [Resource(*pair) for pair in bodies.items()]
    return Snapshot(dict.fromkeys((CLUSTER, ENDPOINTS), named))


def ask(*names: str, nonce: str = "", error: str = "", version: str = "", kind: str = CLUSTER) -> Request:
    return Request(type_url=kind, names=names, nonce=nonce, error=error, version=version)


def sent(client: Subscription, current: Snapshot, *, removals: bool = True) -> Response:
    """The next response, of the state of the world."""
    response = client.respond(current, removals=removals)
    assert isinstance(response, Response)
    return response


def delta(client: Subscription, current: Snapshot, *, removals: bool = True) -> DeltaResponse:
    """The next response, incremental."""
    response = client.respond(current, removals=removals)
    assert isinstance(response, DeltaResponse)
    return response


def reply(client: Subscription, response: Response | DeltaResponse, error: str = "") -> None:
    """The client takes or rejects the response."""
    if isinstance(response, DeltaResponse):
        client.take_delta(DeltaRequest(type_url=client.type_url, nonce=response.nonce, error=error))
        return
    names = tuple(sorted(client.names))
    client.take(ask(*names, nonce=response.nonce, error=error, kind=client.type_url))


def settle(client: Subscription, current: Snapshot, *bad: str) -> None:
    """Brings the client there; it rejects, without naming it, each response that holds one of `bad`."""
    client.note([*current.resources(client.type_url), *client.held])
    while (response := client.respond(current)) is not None:
        names = client._batch.keys()
        reply(client, response, "no" if names & set(bad) else "")


def whole(kind: str = CLUSTER, *names: str, node: str = "") -> Subscription:
    client = Subscription(kind, node)
    client.take(ask(*names, kind=kind))
    return client


def incremental(kind: str = CLUSTER, *names: str, **versions: str) -> Subscription:
    client = Subscription(kind, incremental=True)
    client.take_delta(DeltaRequest(type_url=kind, subscribe=names, versions=versions))
    return client


def test_the_same_content_has_the_same_version_in_any_order() -> None:
    assert snapshot("a", "b").version == snapshot("b", "a").version
    assert snapshot("a").version != snapshot("a", body=b"x").version
    assert snapshot("a").version != snapshot("b").version


def test_the_same_content_has_the_same_version_whatever_came_before() -> None:
    other = Resource("b", b"other")
    changed = snapshot("a", "c").replace({CLUSTER: {"c": None, "b": other}})
    changed = changed.replace({CLUSTER: {"b": Resource("b", b"")}, ENDPOINTS: {"b": Resource("b", b"")}})
    changed = changed.replace({ENDPOINTS: {"c": None, "unheard of": None}})
    assert changed.version == snapshot("a", "b").version
    assert changed.type_version(CLUSTER) == snapshot("a", "b").type_version(CLUSTER)


def test_what_differs_between_snapshots_is_told_by_name() -> None:
    before = snapshot("a", "b")
    after = before.replace({CLUSTER: {"a": None, "b": Resource("b", b"new"), "c": Resource("c", b"")}})
    assert differences(before, after)[CLUSTER] == {"a", "b", "c"}
    assert not differences(before, after)[ENDPOINTS]


def test_a_first_request_without_names_gets_everything_that_is_listed() -> None:
    hidden = Resource("hidden", b"h", listed=False)
    assert sent(whole(), Snapshot({CLUSTER: [Resource("a", b"A"), hidden]})).bodies == (b"A",)


def test_a_first_request_is_answered_though_there_is_nothing() -> None:
    assert sent(whole(), snapshot()).bodies == ()
    assert delta(incremental(), snapshot()).resources == ()


def test_a_resource_that_is_not_listed_goes_to_who_names_it() -> None:
    hidden = Snapshot({LISTENER: [Resource("hidden", b"h", listed=False)]})
    assert sent(whole(LISTENER, "hidden"), hidden).bodies == (b"h",)


def test_a_resource_with_an_audience_goes_only_to_the_client_of_that_node_id() -> None:
    one, other = (Resource(f"gateway/{port}", b"%d" % port, audience=f"node {port}") for port in (1, 2))
    offered = Snapshot({LISTENER: [one, other, Resource("all", b"all")]})
    assert sent(whole(LISTENER, node="node 1"), offered).bodies == (b"all", b"1")
    assert sent(whole(LISTENER, node="node 3"), offered).bodies == (b"all",)
    assert Resource("a", b"").version != Resource("a", b"", audience="b").version


def test_a_client_of_a_zone_gets_the_view_of_its_zone_and_hears_when_that_changes() -> None:
    def endpoints(near: bytes, far: bytes) -> Snapshot:
        views = (("near", Resource("a", near)), ("far", Resource("a", far)))
        return Snapshot({ENDPOINTS: [Resource("a", b"all", views=views)]})

    for zone, body in (("near", b"1"), ("far", b"2"), ("elsewhere", b"all"), ("", b"all")):
        client = Subscription(ENDPOINTS, zone=zone)
        client.take(ask("a", kind=ENDPOINTS))
        response = sent(client, endpoints(b"1", b"2"))
        assert response.bodies == (body,)
        reply(client, response)
        client.note(["a"])
        changed = client.respond(endpoints(b"1", b"3"))
        assert (changed is not None) == (zone == "far")


def test_nothing_is_sent_while_a_reply_is_owed_nor_what_the_client_has() -> None:
    clusters = whole()
    first = sent(clusters, snapshot("a"))
    clusters.note(["b"])
    assert clusters.respond(snapshot("a", "b")) is None
    reply(clusters, first)
    reply(clusters, sent(clusters, snapshot("a", "b")))
    clusters.note(["a", "b"])
    assert clusters.respond(snapshot("a", "b")) is None


def test_a_stale_request_is_no_reply_but_tells_what_is_asked_for_no_longer() -> None:
    endpoints = whole(ENDPOINTS, "a", "b")
    reply(endpoints, sent(endpoints, snapshot("a", "b")))
    endpoints.note(["a"])
    response = sent(endpoints, snapshot("b", a=b"new"))
    assert not endpoints.take(ask("a", nonce="1", kind=ENDPOINTS))
    assert endpoints.waiting
    endpoints.take(ask("a", "b", nonce=response.nonce, kind=ENDPOINTS))
    assert sent(endpoints, snapshot("b", a=b"new")).bodies == (b"",)


def test_clusters_come_whole_and_endpoints_as_they_change() -> None:
    clusters, endpoints = whole(CLUSTER, "a", "b"), whole(ENDPOINTS, "a", "b")
    after = snapshot(a=b"A", b=b"new")
    for client, bodies in ((clusters, (b"A", b"new")), (endpoints, (b"new",))):
        reply(client, sent(client, snapshot(a=b"A", b=b"B")))
        client.note(["b"])
        assert sent(client, after).bodies == bodies


def test_a_client_of_changes_gets_changes_only() -> None:
    clusters = incremental()
    reply(clusters, delta(clusters, snapshot(a=b"A", b=b"B")))
    clusters.note(["b", "c"])
    changed = delta(clusters, snapshot(a=b"A", b=b"new", c=b"C"))
    assert changed.resources == (Resource("b", b"new"), Resource("c", b"C"))
    reply(clusters, changed)
    clusters.note(["a"])
    assert delta(clusters, snapshot(b=b"new", c=b"C")).removed == ("a",)


def test_a_client_that_comes_back_gets_only_what_it_lacks() -> None:
    current = snapshot(a=b"A", b=b"B")
    version = current.resources(CLUSTER)["a"].version
    changed = delta(incremental(CLUSTER, a=version, b="older", gone="1"), current)
    assert changed.resources == (Resource("b", b"B"),)
    assert changed.removed == ("gone",)
    knowing = incremental(CLUSTER, a=version)
    assert not knowing.accepted
    assert knowing.respond(snapshot(a=b"A")) is None
    assert knowing.accepted


def test_a_client_that_asks_again_for_what_it_had_gets_it_again() -> None:
    endpoints = incremental(ENDPOINTS, "a")
    reply(endpoints, delta(endpoints, snapshot("a")))
    endpoints.take_delta(DeltaRequest(type_url=ENDPOINTS, subscribe=("a",)))
    assert [each.name for each in delta(endpoints, snapshot("a")).resources] == ["a"]


def test_asking_for_what_there_is_not_is_answered_where_the_protocol_can() -> None:
    clusters = whole(CLUSTER, "zzz")
    assert sent(clusters, snapshot("a")).bodies == ()
    assert delta(incremental(ENDPOINTS, "zzz"), snapshot("a")).removed == ("zzz",)
    assert whole(ENDPOINTS, "zzz").respond(snapshot("a")) is None


def test_no_names_means_nothing_for_endpoints_and_routes() -> None:
    for kind in (ENDPOINTS, ROUTES):
        assert whole(kind).respond(snapshot("a")) is None
        assert incremental(kind).respond(snapshot("a")) is None


@pytest.mark.parametrize("start", [whole, incremental])
def test_what_left_the_snapshot_is_kept_until_it_may_go(start: type[Subscription]) -> None:
    clusters = start()
    settle(clusters, snapshot("a", "b"))
    clusters.note(["a"])
    assert clusters.respond(snapshot("b"), removals=False) is None
    assert clusters.held.keys() == {"a", "b"}
    settle(clusters, snapshot("b"))
    assert clusters.held.keys() == {"b"}


def test_what_left_and_came_back_is_the_new_one() -> None:
    clusters = whole()
    settle(clusters, snapshot("a"))
    clusters.note(["a"])
    assert clusters.respond(snapshot(), removals=False) is None
    assert sent(clusters, snapshot("a", body=b"new")).bodies == (b"new",)


@pytest.mark.parametrize("start", [whole, incremental])
def test_a_rejected_response_is_remembered_and_not_sent_again(start: type[Subscription]) -> None:
    clusters = start()
    response = clusters.respond(snapshot("a"))
    assert response is not None
    reply(clusters, response, "bad cluster")
    assert (clusters.rejected, clusters.nacks) == ("bad cluster", 1)
    assert clusters.respond(snapshot("a")) is None
    clusters.note(["a"])
    assert clusters.respond(snapshot("a", body=b"better")) is not None


def test_the_one_that_a_rejection_names_is_left_out_and_the_others_go_through() -> None:
    clusters = incremental()
    reason = "Error adding/updating cluster(s) nlp/m@1: no such policy"
    reply(clusters, delta(clusters, snapshot("nlp/m@1", "nlp/m@10", "x")), reason)
    assert [each.name for each in delta(clusters, snapshot("nlp/m@1", "nlp/m@10", "x")).resources] == [
        "nlp/m@10",
        "x",
    ]
    assert clusters.rejections.keys() == {"nlp/m@1"}
    assert clusters.reason == reason


def test_of_a_rejected_cluster_a_client_of_the_whole_keeps_the_version_that_it_took() -> None:
    clusters = whole()
    settle(clusters, snapshot(a=b"A", b=b"B"))
    clusters.note(["a", "b"])
    worse = snapshot(a=b"bad", b=b"new")
    reply(clusters, sent(clusters, worse), "a: not good")
    assert sent(clusters, worse).bodies == (b"A", b"new")


@pytest.mark.parametrize("start", [whole, incremental])
def test_a_bad_one_that_no_reason_names_is_found_and_the_others_go_through(
    start: type[Subscription],
) -> None:
    clusters = start()
    names = [f"c{index}" for index in range(20)]
    settle(clusters, snapshot(*names), "c3", "c11")
    assert clusters.rejections.keys() == {"c3", "c11"}
    assert clusters.held.keys() == set(names) - {"c3", "c11"}
    settle(clusters, snapshot(*names, body=b"mended"))
    assert clusters.held.keys() == set(names)
    assert not clusters.reason


def test_a_name_is_found_in_a_reason_only_if_it_stands_there_whole() -> None:
    names = ["nlp/m@1", "m", "nlp/m@1.5", "a"]
    assert named_in("Error adding/updating cluster(s) nlp/m@1: bad value 'a'.", names) == ["nlp/m@1", "a"]


def test_much_is_sent_in_several_responses() -> None:
    big = dict.fromkeys("abcd", b"x" * (RESPONSE_BYTES // 2))
    for client in (whole(ENDPOINTS, *big), incremental(CLUSTER)):
        counts = []
        while (response := client.respond(snapshot(**big))) is not None:
            counts.append(len(client._batch))
            reply(client, response)
        assert counts == [2, 2]
    assert len(sent(whole(), snapshot(**big)).bodies) == 4  # what it lacked would be gone
