"""A mapping given in words, as HTTPie has them.

::

    user=alice           a text
    image=@seven.png     a file's bytes; `@-` reads standard input
    count:=3             JSON: a number, a list, true
    '{"user": "alice"}'  a whole mapping as JSON
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import rich_click as click

METAVAR = "NAME=TEXT|NAME=@FILE|NAME:=JSON"
_WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:?=)(.*)", re.DOTALL)


class Entries(click.ParamType[Any]):
    """One word, as the mapping that it stands for."""

    name = "entries"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The mapping."""
        if value.lstrip().startswith("{"):
            return self._json(value, param, ctx)
        match = _WORD.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} should be {METAVAR.replace('|', ', ')} or a JSON object", param, ctx)
        name, sign, text = match.groups()
        if sign == ":=":
            return {name: self._json(text, param, ctx)}
        return {name: self._file(text[1:], param, ctx) if text.startswith("@") else text}

    def _json(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            self.fail(f"{text[:100]!r} is no JSON: {error}", param, ctx)

    def _file(self, path: str, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if path == "-":
            return sys.stdin.buffer.read()
        try:
            return Path(path).read_bytes()
        except OSError as error:
            self.fail(f"cannot read {path}: {error.strerror}", param, ctx)
