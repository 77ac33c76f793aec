"""Tables of routes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from meshwork.xds.messages import Values, decode
from meshwork.xds.routes import RETRIES, Retry, RouteSpec, routes
from meshwork.xds.snapshot import Resource

SPEC = RouteSpec(name="nlp", path="/nlp/", cluster="nlp/a@1")


def repeated(table: Resource) -> list[Values]:
    """By route, how its calls are repeated: as it says itself, or else as the table does; {} for never."""
    [host] = decode("envoy.config.route.v3.RouteConfiguration", table.body)["virtual_hosts"]
    found = [each["route"].get("retry_policy", host.get("retry_policy", {})) for each in host["routes"]]
    return [policy if policy.get("num_retries", 1) else {} for policy in found]


@pytest.mark.parametrize("default", [1, RETRIES, 5])
def test_what_a_table_says_of_retries_for_all_changes_no_route(default: int) -> None:
    specs = [
        replace(SPEC, retry=retry, retries=retries, hedge_after_s=hedge)
        for retry, retries, hedge in product(Retry, (0, 1, 2, 5), (0.0, 0.1))
    ]
    plain = repeated(routes("all", specs))
    assert {} in plain
    assert repeated(routes("all", specs, default_retries=default)) == plain


def test_a_table_that_says_the_usual_retries_once_is_half_as_large() -> None:
    specs = [replace(SPEC, value=f"model-{number}", header="x-model") for number in range(100)]
    assert 2 * len(routes("all", specs, default_retries=RETRIES).body) < len(routes("all", specs).body)
