from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from meshwork import errors
from meshwork.errors import InvalidArgument, MeshworkError, ModelNotFound, Overloaded, from_status, tree


@pytest.mark.parametrize("kind", list(tree())[1:], ids=lambda kind: kind.__name__)
def test_every_class_survives_the_wire(kind: type[MeshworkError]) -> None:
    sent = kind("what to do", metadata={"fact": "1"}, retry_after_s=1.5)
    received = from_status(sent.status())
    assert type(received) is kind
    assert str(received) == "what to do"
    assert received.metadata["fact"] == "1"
    assert received.retry_after_s == 1.5


def test_the_docstring_draws_every_class() -> None:
    assert errors.__doc__
    for kind in tree():
        assert kind.__name__ in errors.__doc__


def test_an_invalid_argument_names_its_field_in_bad_request() -> None:
    received = from_status(InvalidArgument("should be a PNG", field="image.content").status())
    assert isinstance(received, InvalidArgument)
    assert received.field == "image.content"
    assert received.remedy == "should be a PNG"


def test_an_unknown_model_lists_those_that_exist() -> None:
    received = from_status(ModelNotFound.among("zebra", "vision", ["digits@1"]).status())
    assert isinstance(received, ModelNotFound)
    assert (received.kind, received.name) == ("model", "zebra")
    assert received.metadata["models"] == "digits@1"


def test_a_reason_of_a_newer_server_falls_back_to_the_code() -> None:
    status = Overloaded("full", reason="BRAND_NEW").status()
    received = from_status(status)
    assert type(received) is errors.ResourceExhausted
    assert received.reason == "BRAND_NEW"


def test_a_status_stays_below_what_headers_may_hold() -> None:
    endless = ModelNotFound.among("x" * 100_000, "vision", ["y" * 100] * 1000)
    assert len(endless.status().SerializeToString()) < 7000


def test_each_error_carries_our_domain() -> None:
    info = error_details_pb2.ErrorInfo()
    Overloaded("full").status().details[0].Unpack(info)
    assert (info.domain, info.reason) == ("meshwork", "OVERLOADED")


def test_codes_are_those_of_grpc() -> None:
    assert {kind.code for kind in tree()} <= set(grpc.StatusCode)
