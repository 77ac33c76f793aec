from __future__ import annotations

from typing import Any

import pytest

from services.pipeline.references import Missing, Reference, filled, pieces, references

VALUES: dict[str, Any] = {
    "inputs": {"word": "rain", "many": [1, 2], "none": None},
    "digit": {"classifications": [{"label": "7", "score": 0.5}], "sure": True},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("$digit.classifications[0].score", 0.5),
        ("$inputs.many", [1, 2]),
        ("$digit", VALUES["digit"]),
        ("a $digit.classifications[0].label, sure: $digit.sure.", "a 7, sure: true."),
        ("${inputs.word}s and $inputs.many", "rains and [1, 2]"),
        ("$$5 for $$inputs.word", "$5 for $inputs.word"),
        ("", ""),
        (3, 3),
        ({"a": ["$inputs.word", {"b": "$inputs.many[1]"}]}, {"a": ["rain", {"b": 2}]}),
    ],
)
def test_a_lone_reference_keeps_its_type_and_one_within_a_text_is_text(template: Any, value: Any) -> None:
    assert filled(template, VALUES) == value


@pytest.mark.parametrize(
    ("template", "at"),
    [
        ("$inputs.gone", 0),
        ("$inputs.none", 0),
        ("$inputs.many[2]", 1),
        ("$inputs.many.word", 1),
        ("$inputs.word[0]", 1),
        ("$digit.classifications[0].label.x", 3),
    ],
)
def test_what_is_not_there_is_missing_from_where_it_ends(template: str, at: int) -> None:
    with pytest.raises(Missing) as missing:
        filled({"text": template}, VALUES)
    assert (str(missing.value), missing.value.at) == (template, at)


@pytest.mark.parametrize("text", ["$", "5$", "a $ b", "$5", "${a", "${}"])
def test_a_dollar_that_begins_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"written \$\$"):
        pieces(text)


def test_references_are_found_wherever_they_stand() -> None:
    template = {"a": ["$x.b[1]", {"c": "to $y and $inputs.z"}], "d": 4}
    assert [str(each) for each in references(template)] == ["$x.b[1]", "$y", "$inputs.z"]
    assert Reference.parsed("x.b[1]") == Reference("x", ("b", 1))
