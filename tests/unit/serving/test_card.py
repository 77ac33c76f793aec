from __future__ import annotations

from pathlib import Path

import pytest

from meshwork.serving.card import CardError
from meshwork.serving.sources import open_directory

GOOD = 'name: a\nversion: "1"\nservice: nlp\ntask: echo\nmethods: [Embed]\n'


def write(folder: Path, content: str | bytes) -> str:
    file = folder / "card.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


def test_a_card_with_all_that_it_needs_is_read(tmp_path: Path) -> None:
    card = open_directory(write(tmp_path, GOOD + "limits: [Short texts.]\n"), "nlp").card
    assert (card.id, card.methods, card.limits) == ("a@1", ("Embed",), ("Short texts.",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("just text", "mapping"),
        (GOOD + "1: 2\n", "1"),
        (GOOD + "licence: 5\n", "licence: should be text"),
        (GOOD + "description: {a: 1}\n", "description: should be text"),
        (GOOD + "limits: Short texts.\n", "limits: should be a list"),
        (GOOD + "limits: [1]\n", "limits: should be a list"),
        (GOOD + "quality: 5\n", "int"),
        (GOOD + "quality: [{metric: a, value: high, dataset: b}]\n", "quality"),
        (GOOD.replace("[Embed]", "Embed"), "methods: should be a list"),
        (GOOD.replace("[Embed]", "[1, {a: b}]"), "methods: should be a list"),
        (GOOD.replace("[Embed]", "[]"), "at least one"),
        (GOOD.replace("echo", "[echo]"), "task: should be text"),
        (GOOD.replace('"1"', "1"), "quoted"),
        (GOOD.replace("name: a", "name: A b"), "name"),
        (GOOD.replace("nlp", "vision"), "not of nlp"),
    ],
)
def test_a_card_that_is_wrong_is_refused_by_what_is_wrong(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(CardError, match=says):
        open_directory(write(tmp_path, content), "nlp")


@pytest.mark.parametrize("weights", ["package:no_such_package/a", "package:a..b/c", "package:/etc", "/etc"])
def test_weights_in_a_package_that_is_not_there_are_refused(tmp_path: Path, weights: str) -> None:
    directory = open_directory(write(tmp_path, f"{GOOD}weights: '{weights}'\n"), "nlp")
    with pytest.raises(CardError, match="weights"):
        directory.file("model.safetensors")
