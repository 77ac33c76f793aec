"""References: how a pipeline's card says which value goes where.

::

    "$inputs.image"                          that value, of whatever type
    "a $digit.classifications[0].label!"     that value as text, within a text
    "${inputs.word}s"                        the same, where more letters follow
    "$$5"                                    a dollar sign

`$inputs` is what the caller gave, `$NAME` the answer of the step of that name, as in proto JSON with
the proto's own field names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

INPUTS = "inputs"
Part: TypeAlias = str | int  # a field's name, or an index into a list

_PATH = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*|\[\d{1,9}\])*"
_DOLLAR = re.compile(rf"\$(?:(?P<dollar>\$)|\{{(?P<braced>{_PATH})\}}|(?P<bare>{_PATH})|)")
_PART = re.compile(r"[A-Za-z0-9_]+")


class Missing(LookupError):
    """A reference leads nowhere in the values at hand.

    Attributes:
        reference: the reference.
        at: how many of its parts were found.
    """

    def __init__(self, reference: Reference, at: int) -> None:
        super().__init__(str(reference))
        self.reference = reference
        self.at = at


@dataclass(frozen=True, slots=True)
class Reference:
    """A path into the inputs or into a step's answer."""

    root: str  # `inputs`, or a step's name
    parts: tuple[Part, ...] = ()

    @classmethod
    def parsed(cls, path: str) -> Reference:
        """Of `digit.classifications[0].label`."""
        root, *parts = _PART.findall(path)
        return cls(root, tuple(int(part) if part.isdecimal() else part for part in parts))

    def path(self, parts: int | None = None) -> str:
        """As it is written, without the dollar; of its first `parts` parts only."""
        texts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.parts[:parts]]
        return self.root + "".join(texts)

    def __str__(self) -> str:
        return f"${self.path()}"

    def value(self, values: Mapping[str, Any]) -> Any:
        """What it refers to.

        Args:
            values: the inputs and the answers, by root.

        Raises:
            Missing: there is no such value.
        """
        found: Any = values[self.root]
        for at, part in enumerate(self.parts):
            fits = isinstance(found, list) if isinstance(part, int) else isinstance(found, dict)
            try:
                found = found[part] if fits else None
            except LookupError:
                found = None
            if found is None:
                raise Missing(self, at)
        return found


def pieces(text: str) -> list[str | Reference]:
    """A text as plain pieces and references, in order; none of the pieces is empty.

    Raises:
        ValueError: a dollar sign begins no reference.
    """
    found: list[str | Reference] = []
    end = 0
    for match in _DOLLAR.finditer(text):
        path = match["braced"] or match["bare"]
        if not path and not match["dollar"]:
            raise ValueError(f"{text!r}: a $ should begin a reference, or be written $$")
        found += [text[end : match.start()], Reference.parsed(path) if path else "$"]
        end = match.end()
    return [piece for piece in (*found, text[end:]) if piece]


def references(template: Any) -> Iterator[Reference]:
    """Every reference in a template: a mapping, a list, a text, or another value.

    Raises:
        ValueError: a dollar sign begins no reference.
    """
    match template:
        case str():
            yield from (piece for piece in pieces(template) if isinstance(piece, Reference))
        case list():
            for entry in template:
                yield from references(entry)
        case dict():
            for entry in template.values():
                yield from references(entry)


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with the values that it refers to.

    Raises:
        Missing: one of them is not there.
    """
    match template:
        case str():
            found = pieces(template)
            if len(found) == 1 and isinstance(found[0], Reference):
                return found[0].value(values)
            return "".join(
                _as_text(piece.value(values)) if isinstance(piece, Reference) else piece for piece in found
            )
        case list():
            return [filled(entry, values) for entry in template]
        case dict():
            return {name: filled(entry, values) for name, entry in template.items()}
    return template


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
