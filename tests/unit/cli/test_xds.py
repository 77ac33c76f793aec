from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from meshwork.admin.v1 import admin_pb2
from meshwork.cli.xds import clients_table, rejections


def text(table: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def answer(**fields: Any) -> admin_pb2.GetDiscoveryResponse:
    client = admin_pb2.DiscoveryClient(node="gateway/default", user_agent="envoy", incremental=True, **fields)
    return admin_pb2.GetDiscoveryResponse(generation=9, clients=[client])


def test_each_client_is_shown_with_how_far_it_is() -> None:
    for generation, state in ((0, "loading"), (7, "2 behind"), (9, "up to date")):
        row = text(clients_table(answer(generation=generation))).splitlines()[1]
        assert row.split()[:3] == ["gateway/default", "envoy", "changes"]
        assert row.strip().endswith(state)


def test_what_a_client_rejects_is_shown_with_the_reason_as_it_gave_it() -> None:
    subscription = admin_pb2.DiscoverySubscription(
        type="Cluster", rejected="[bad] thing", rejected_names=["nlp/m@1"], sent=3
    )
    shown = answer(generation=9, subscriptions=[subscription])
    assert "rejects" in text(clients_table(shown))
    assert "gateway/default rejects Cluster nlp/m@1: [bad] thing" in text(next(rejections(shown)))
