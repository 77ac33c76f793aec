"""What is printed does nothing to the terminal but show text."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from meshwork.cli import console


@pytest.mark.parametrize("as_table", [False, True])
def test_names_from_outside_steer_no_terminal(as_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    made = console._console()
    made.file = shown
    name = "nlp-1\x1b[2J\x1b]0;title\x07\x9b31m\r!"
    table = Table("NAME")
    table.add_row(name)
    made.print(table if as_table else name, markup=False)
    text = shown.getvalue()
    assert "nlp-1" in text
    assert text.replace("\n", "").isprintable()
