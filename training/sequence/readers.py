"""Simulated readers: each takes one book after another, for reasons that the order reveals.

A step of a reader is, by `Habits`, one of:

* the follow-up of the last book (a series goes on, or a companion elsewhere in the library);
* the follow-up of a book some steps back, put off until now: counting neighbours misses it;
* any book, by popularity alone;
* else a book of the shelf where the reader stands. Now and then the reader changes shelves: to where
  the last two categories together lead (the same for all readers, known from neither alone), or by
  taste, which drifts.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from training.sequence.catalogue import SUBJECTS, Catalogue


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """Chances, each from 0 to 1, and the bounds of a history's length."""

    follow_up: float = 0.35
    late_follow_up: float = 0.40
    late_reach: int = 8  # steps back
    popular: float = 0.05
    change_shelf: float = 0.30
    led: float = 0.6  # of changes, those where the last two categories lead
    drift: float = 0.03  # of a taste, a step
    shortest: int = 5
    longest: int = 50


class Chooser:
    """Draws from `entries` by weight."""

    def __init__(self, entries: Sequence[int], weights: Sequence[float]) -> None:
        self._entries = entries
        self._sums = list(accumulate(weights))

    def draw(self, rng: random.Random) -> int:
        """One entry."""
        return self._entries[bisect(self._sums, rng.random() * self._sums[-1], hi=len(self._sums) - 1)]


class Library:
    """The catalogue as readers meet it."""

    def __init__(self, catalogue: Catalogue, habits: Habits, seed: int) -> None:
        self.catalogue = catalogue
        self.habits = habits
        appeals = [book.appeal for book in catalogue.books]
        self.anything = Chooser(range(len(appeals)), appeals)
        self.shelf = {
            name: Chooser(shelf, [appeals[number] for number in shelf])
            for name, shelf in catalogue.shelves.items()
        }
        rng = random.Random(seed)
        self.categories = list(SUBJECTS)
        self.leads = {
            (before, now): rng.choice([each for each in self.categories if each not in (before, now)])
            for before in self.categories
            for now in self.categories
        }


def read(library: Library, rng: random.Random) -> list[int]:
    """The books that one new reader takes, oldest first, none of them twice."""
    habits, books = library.habits, library.catalogue.books
    follow_up = library.catalogue.follow_up
    taste = rng.sample(library.categories, 3)
    before, now = taste[0], taste[1]
    subject = rng.choice(SUBJECTS[now])
    taken: list[int] = []
    seen: set[int] = set()
    length = rng.randint(habits.shortest, habits.longest)
    while len(taken) < length:
        if rng.random() < habits.drift:
            taste[rng.randrange(3)] = rng.choice(library.categories)
        due = follow_up.get(taken[-1]) if taken else None
        late = [follow_up[book] for book in taken[-habits.late_reach : -1] if book in follow_up]
        late = [book for book in late if book not in seen]
        if due is not None and due not in seen and rng.random() < habits.follow_up:
            chosen = due
        elif late and rng.random() < habits.late_follow_up:
            chosen = late[0]
        elif rng.random() < habits.popular:
            chosen = library.anything.draw(rng)
        else:
            if rng.random() < habits.change_shelf:
                led = rng.random() < habits.led
                before, now = now, library.leads[before, now] if led else rng.choice(taste)
                subject = rng.choice(SUBJECTS[now])
            chosen = library.shelf[now, subject].draw(rng)
        if chosen in seen:
            # Read already: a fresh draw, of a shelf that may be a new one.
            subject = rng.choice(SUBJECTS[now])
            continue
        if books[chosen].category != now:
            before, now, subject = now, books[chosen].category, books[chosen].subject
        taken.append(chosen)
        seen.add(chosen)
    return taken


def simulate(catalogue: Catalogue, readers: int, seed: int, habits: Habits | None = None) -> list[list[int]]:
    """Histories of `readers` readers, each of book numbers, oldest first; the same for the same seed."""
    library = Library(catalogue, habits or Habits(), seed)
    rng = random.Random(seed)
    return [read(library, rng) for _ in range(readers)]
