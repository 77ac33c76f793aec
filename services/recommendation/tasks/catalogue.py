"""The items that a model knows: `items.json` in its directory.

A list of objects, in the order of the model's item numbers::

    {"id": "the-silent-robot", "title": "The Silent Robot", "category": "science-fiction", "popularity": 412}

`id` is unique; `popularity` is how often the item was taken, 0 or more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError
from services.recommendation.tasks.recommend import ScoredItem, Wish

ITEMS_FILE = "items.json"

Mask = NDArray[np.bool_]  # (items,)
Scores = NDArray[np.float32]  # (items,)


class Catalogue:
    """Items by number and by id.

    Attributes:
        popularity: (items,) share of each item in all that was taken, 0 to 1, adding up to 1.
    """

    def __init__(self, ids: list[str], titles: list[str], categories: list[str], taken: list[float]) -> None:
        self._ids = ids
        self._titles = titles
        self._categories = categories
        self._number = {item: number for number, item in enumerate(ids)}
        known = sorted(set(categories))
        self._members: dict[str, Mask] = {
            category: np.array([each == category for each in categories]) for category in known
        }
        counts = np.asarray(taken, np.float64)
        total = counts.sum()
        self.popularity: Scores = (
            (counts / total).astype(np.float32) if total else np.full(len(ids), 1 / len(ids), np.float32)
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads `items.json`.

        Raises:
            CardError: it is not as this module's docstring says.
        """
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CardError(f"{path}: not JSON: {error}") from error
        if not isinstance(entries, list) or not entries:
            raise CardError(f"{path}: should be a list of items, with at least one")
        for number, entry in enumerate(entries):
            _check(entry, f"{path}: item {number}")
        ids = [entry["id"] for entry in entries]
        if len(set(ids)) < len(ids):
            twice = next(item for number, item in enumerate(ids) if item in ids[:number])
            raise CardError(f"{path}: item {twice!r} is there twice")
        return cls(
            ids,
            [entry.get("title", "") for entry in entries],
            [entry.get("category", "") for entry in entries],
            [entry["popularity"] for entry in entries],
        )

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item: str) -> bool:
        return item in self._number

    def number(self, item: str) -> int | None:
        """The item's number, or None if the catalogue does not have it."""
        return self._number.get(item)

    def numbers(self, items: Iterable[str]) -> list[int]:
        """The numbers of those of `items` that the catalogue has, in order."""
        return [self._number[item] for item in items if item in self._number]

    def allowed(self, wish: Wish, without: Iterable[str] = ()) -> Mask:
        """(items,) which items fulfil `wish` and are not in `without`.

        Raises:
            InvalidArgument: a category that the catalogue does not have.
        """
        mask: Mask = np.full(len(self), not wish.categories)
        for index, category in enumerate(wish.categories):
            members = self._members.get(category)
            if members is None:
                known = ", ".join(each for each in self._members if each)
                raise InvalidArgument(
                    f"no category {category!r}; the catalogue has: {known or 'none'}",
                    field=f"filter.categories[{index}]",
                )
            mask |= members
        mask[self.numbers(wish.excluded)] = False
        mask[self.numbers(without)] = False
        return mask

    def best(self, scores: Scores, mask: Mask, count: int) -> tuple[ScoredItem, ...]:
        """The `count` best items that `mask` allows, best first; of equal ones the more popular first."""
        candidates = np.flatnonzero(mask)
        order = np.lexsort((-self.popularity[candidates], -scores[candidates]))
        return tuple(
            ScoredItem(
                id=self._ids[number],
                title=self._titles[number],
                category=self._categories[number],
                score=float(scores[number]),
            )
            for number in candidates[order[:count]]
        )


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise CardError(f"{where}: should be an object with id, title, category, popularity")
    for name in ("id", "title", "category"):
        if not isinstance(entry.get(name, ""), str):
            raise CardError(f"{where}: {name} should be text, not {entry[name]!r}")
    if not entry.get("id"):
        raise CardError(f"{where}: has no id")
    taken = entry.get("popularity")
    if isinstance(taken, bool) or not isinstance(taken, int | float) or not 0 <= taken < math.inf:
        raise CardError(f"{where}: popularity should be a number from 0, not {taken!r}")
