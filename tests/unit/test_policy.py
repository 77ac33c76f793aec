from __future__ import annotations

import pytest
from pydantic import ValidationError

from meshwork.policy import HashBy, ModelPolicy, Policy, from_json, to_json


def test_what_is_said_for_a_version_stands_over_its_model_and_that_over_the_service() -> None:
    policy = Policy(
        balance="least_request",
        retries=1,
        models={"m": ModelPolicy(retries=0, locality="prefer"), "m@2": ModelPolicy(locality="any")},
    )
    assert policy.of("m", "1") == Policy(balance="least_request", retries=0, locality="prefer")
    assert policy.of("m", "2") == Policy(balance="least_request", retries=0, locality="any")
    assert policy.of("n", "2") == Policy(balance="least_request", retries=1)


def test_policies_survive_json_and_a_name_is_short_for_one() -> None:
    policies = {
        "nlp": Policy(models={"m": ModelPolicy(balance="ring_hash", hash_by=HashBy(field="user_id"))}),
        "vision": Policy(balance="round_robin", hedge_after_ms=2.5),
    }
    assert from_json(to_json(policies)) == policies
    assert from_json('{"nlp": "round_robin"}') == {"nlp": Policy(balance="round_robin")}


def test_a_field_travels_in_a_header_of_its_name_and_a_header_is_itself() -> None:
    assert HashBy(field="user_id").carrier == "meshwork-hash-user-id"
    assert HashBy(header="x-user").carrier == "x-user"


@pytest.mark.parametrize(
    "text",
    [
        '{"nlp": {"hash_by": {"header": "X-User"}}}',
        '{"nlp": {"hash_by": {"header": "a", "field": "b"}}}',
        '{"nlp": {"hedge_after_ms": 5, "retries": 0}}',
        '{"nlp": {"models": {"m": {"retries": 0}}, "hedge_after_ms": 5}}',
        '{"nlp": {"slow_start_s": NaN}}',
        '{"nlp": 1}',
        "[]",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        from_json(text)
