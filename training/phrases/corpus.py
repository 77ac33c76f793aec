"""Parallel sentences from patterns and slots, split by a hash of what was filled in.

A pattern's slot is written `{slot.form}`, `{slot~other}` (an adjective that agrees with slot `other`) or
`{g:slot:masculine/feminine}`; a digit after the slot's name (`{place2}`) tells two of a kind apart.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from training.phrases.generators import GENERATORS
from training.phrases.grammar import LANGUAGES, Filling, adjective, noun, phrase, polish

HERE = Path(__file__).parent
_SLOT = re.compile(r"\{(?:g:(\w+):([^/}]*)/([^}]*)|(\w+)(?:\.(\w+)|~(\w+))?)\}")
_MARKS = {
    "fr": {"?": "{} ?", "!": "{} !", ".": "{}."},
    "es": {"?": "¿{}?", "!": "¡{}!", ".": "{}."},
    "zh": {"?": "{}\uff1f", "!": "{}\uff01", ".": "{}\u3002"},
}


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence in every language."""

    key: str  # pattern and fillings: equal for equal examples
    texts: dict[str, str]  # by language, as it is answered
    others: dict[str, tuple[str, ...]]  # other ways to say it, understood but never answered

    @property
    def held_out(self) -> bool:
        """Whether training must not see it: one filling in ten, whatever the seed."""
        return hashlib.sha256(self.key.encode()).digest()[0] % 10 == 0


class Slots:
    """The fillings of every slot, read from slots.yaml or computed."""

    def __init__(self) -> None:
        content = yaml.safe_load((HERE / "slots.yaml").read_text(encoding="utf-8"))
        self.fillings: dict[str, list[Filling]] = {}
        for section, read in (("nouns", noun), ("adjectives", adjective), ("phrases", phrase)):
            for name, lines in content[section].items():
                self.fillings[name] = [read(line) for line in lines]

    def draw(self, slot: str, rng: random.Random) -> Filling:
        """A filling of `place2` and the like."""
        kind = slot if slot in self.fillings or slot in GENERATORS else slot.rstrip("0123456789")
        return GENERATORS[kind](rng) if kind in GENERATORS else rng.choice(self.fillings[kind])


@dataclass(frozen=True)
class Pattern:
    """One line of a pattern file: the ways to say it by language, the first of which is the answer."""

    ways: dict[str, list[str]]
    mark: str  # ".", "?" or "!"

    @cached_property
    def slots(self) -> list[str]:
        """Names of the slots, in order."""
        names = [match[1] or match[4] for match in _SLOT.finditer(self.ways["en"][0])]
        return list(dict.fromkeys(names))

    def fill(self, slots: Slots, rng: random.Random) -> Example:
        """One example; two slots of a kind get different fillings."""
        while True:
            filled = {slot: slots.draw(slot, rng) for slot in self.slots}
            if len({(slot.rstrip("0123456789"), filling.key) for slot, filling in filled.items()}) == len(
                filled
            ):
                break
        key = "|".join([self.ways["en"][0], *(filling.key for filling in filled.values())])
        texts, others = {}, {}
        for language, ways in self.ways.items():
            texts[language] = self._render(language, ways[0], filled)
            more = [self._render(language, way, filled) for way in ways[1:]]
            if language == "en":
                for filling in filled.values():
                    more += [
                        texts["en"].replace(filling.forms["en"][""], other) for other in _spellings(filling)
                    ]
            others[language] = tuple(way for way in more if way != texts[language])
        return Example(key, texts, others)

    def _render(self, language: str, way: str, filled: dict[str, Filling]) -> str:
        def put(match: re.Match[str]) -> str:
            if match[1]:
                return match[3] if filled[match[1]].genders[language] == "f" else match[2]
            filling = filled[match[4]]
            if match[6]:
                gender = filled[match[6]].genders.get(language, "m")
                return filling.forms[language][gender]
            return filling.forms[language][match[5] or ""]

        text = polish(language, _SLOT.sub(put, way))
        text = text[0].upper() + text[1:]
        return _MARKS.get(language, {}).get(self.mark, "{}" + self.mark).format(text)


def _spellings(filling: Filling) -> list[str]:
    before = filling.forms["en"][""]
    return [
        before.replace(filling.key, other) if filling.key in before else other for other in filling.spellings
    ]


def patterns() -> list[Pattern]:
    """Every pattern of every file.

    Raises:
        ValueError: a line does not say it in five languages.
    """
    found = []
    for file in sorted((HERE / "patterns").glob("*.yaml")):
        for line in yaml.safe_load(file.read_text(encoding="utf-8")):
            if len(line) != len(LANGUAGES):
                raise ValueError(f"{file}: {line[0]}: {len(line)} languages, not {len(LANGUAGES)}")
            ways = {language: text.split("|") for language, text in zip(LANGUAGES, line, strict=True)}
            mark = ways["en"][0][-1]
            ways["en"] = [way[:-1] for way in ways["en"]]
            found.append(Pattern(ways, mark))
    return found


def distinct(seed: int, count: int) -> list[Example]:
    """The first `count` held-out examples that differ."""
    found: dict[str, Example] = {}
    for example in examples(seed, held_out=True):
        found.setdefault(example.key, example)
        if len(found) == count:
            break
    return list(found.values())


def examples(seed: int, *, held_out: bool) -> Iterator[Example]:
    """Endless random examples of one side of the split; fixed phrases are always on training's side."""
    rng, slots, all_patterns = random.Random(seed), Slots(), patterns()
    weights = [1.0 if pattern.slots else 0.25 for pattern in all_patterns]
    while True:
        for pattern in rng.choices(all_patterns, weights, k=1024):
            example = pattern.fill(slots, rng)
            if (example.held_out and bool(pattern.slots)) == held_out:
                yield example
