from __future__ import annotations

import base64
import math

import pytest

from meshwork.errors import InvalidArgument
from meshwork.serving import fields


def test_zero_means_the_default() -> None:
    assert fields.count("top_k", 0, default=5, high=10) == 5
    assert fields.count("top_k", 10, default=5, high=10) == 10


@pytest.mark.parametrize("value", [-1, 11])
def test_a_count_out_of_range_names_its_field(value: int) -> None:
    with pytest.raises(InvalidArgument) as error:
        fields.count("top_k", value, default=5, high=10)
    assert error.value.field == "top_k"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.1])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InvalidArgument):
        fields.number("rate", value, default=1, low=0.5, high=3)


def test_an_empty_text_in_a_list_is_named_by_its_index() -> None:
    with pytest.raises(InvalidArgument) as error:
        fields.texts("texts", ["a", " "], most=5)
    assert error.value.field == "texts[1]"


def test_media_is_taken_from_content_or_a_data_uri() -> None:
    assert fields.media("image", "content", b"x", "") == b"x"
    uri = "data:image/png;base64," + base64.b64encode(b"bytes").decode()
    assert fields.media("image", "uri", b"", uri) == b"bytes"


@pytest.mark.parametrize(
    ("source", "content", "uri", "field"),
    [
        (None, b"", "", "image"),
        ("content", b"", "", "image.content"),
        ("uri", b"", "http://example.com/a.png", "image.uri"),
        ("uri", b"", "data:image/png;base64,***", "image.uri"),
        ("uri", b"", "data:image/png;base64,é", "image.uri"),
        ("uri", b"", "data:image/png,abc", "image.uri"),
    ],
)
def test_media_that_cannot_be_read_names_its_field(
    source: str | None, content: bytes, uri: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as error:
        fields.media("image", source, content, uri)
    assert error.value.field == field


def test_pages_cover_every_entry_once() -> None:
    seen: list[int] = []
    token = ""
    while True:
        page, token = fields.page(range(25), 10, token)
        seen += page
        if not token:
            break
    assert seen == list(range(25))


@pytest.mark.parametrize("token", ["nonsense", "LTE=", "OTk5", "é", "AA==", "a"])
def test_a_token_of_no_page_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        fields.page(range(25), 10, token)
    assert error.value.field == "page_token"
