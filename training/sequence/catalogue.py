"""A made-up library: 1,600 books in 16 categories, their popularity, and which book follows which."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Category -> its five subjects. A subject belongs to one category, so that titles are unique.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "crime": ("Inspector", "Harbour Murder", "Witness", "Robbery", "Poisoner"),
    "romance": ("Wedding", "Love Letter", "Bakery by the Sea", "Summer Kiss", "Dance Partner"),
    "fantasy": ("Dragon", "Sorcerer", "Enchanted Sword", "Elven Queen", "Kingdom"),
    "science-fiction": ("Starship", "Robot", "Colony", "Time Traveller", "Signal from Space"),
    "horror": ("Haunted House", "Vampire", "Graveyard", "Curse", "Asylum"),
    "history": ("Empire", "Revolution", "Castle", "Siege", "Viking"),
    "biography": ("Composer", "Explorer", "Inventor", "President", "Actress"),
    "travel": ("Night Train", "Island", "Desert Road", "Pilgrim", "Mountain Village"),
    "cooking": ("Kitchen", "Bread Oven", "Spice Box", "Vegetable Table", "Sunday Roast"),
    "gardening": ("Rose Garden", "Orchard", "Greenhouse", "Herb Bed", "Balcony Garden"),
    "nature": ("Forest", "Whale", "River", "Songbird", "Volcano"),
    "sport": ("Marathon", "Goalkeeper", "Climber", "Cyclist", "Chess Master"),
    "art": ("Painter", "Sculptor", "Photographer", "Museum", "Architect"),
    "business": ("Startup", "Market", "Negotiation", "Bank", "Brand"),
    "children": ("Little Bear", "Pirate Ship", "Clever Fox", "Circus", "Wooden Toy"),
    "poetry": ("Moon", "Winter Song", "Lighthouse", "Mirror", "Silence"),
}
ADJECTIVES = (
    "Silent", "Last", "Hidden", "Golden", "Broken", "Distant", "Crooked", "Forgotten", "Blue", "Restless",
    "Patient", "Burning", "Quiet", "Lonely", "Secret", "Northern", "Ancient", "Honest", "Wandering", "Second",
)  # fmt: skip
BOOKS_PER_SUBJECT = 20
SERIES_PER_SUBJECT = 2
VOLUMES = 4
COMPANION_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Book:
    """An item of the catalogue."""

    id: str  # its title, as one lower-case word
    title: str
    category: str
    subject: str
    appeal: float  # weight by which readers of the subject choose it, above 0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All books, and what follows what.

    Attributes:
        books: by number.
        shelves: (category, subject) -> numbers of its books.
        follow_up: book number -> the book that most readers of it take next, or soon.
    """

    books: tuple[Book, ...]
    shelves: dict[tuple[str, str], tuple[int, ...]]
    follow_up: dict[int, int]


def build(seed: int) -> Catalogue:
    """The catalogue of `seed`; the same one each time."""
    rng = random.Random(seed)
    books: list[Book] = []
    shelves: dict[tuple[str, str], tuple[int, ...]] = {}
    follow_up: dict[int, int] = {}
    for category, subjects in SUBJECTS.items():
        for subject in subjects:
            first = len(books)
            # Zipf's law, in random order: few are read by many.
            ranks = rng.sample(range(1, BOOKS_PER_SUBJECT + 1), BOOKS_PER_SUBJECT)
            for (title, volume), rank in zip(_titles(subject, rng), ranks, strict=True):
                if volume > 1:
                    follow_up[len(books) - 1] = len(books)
                # Who comes to a series mostly begins with its first volume.
                appeal = rank**-0.8 * (0.15 if volume > 1 else 1.0)
                books.append(Book(_slug(title), title, category, subject, appeal))
            shelves[category, subject] = tuple(range(first, len(books)))
    # Companions lead elsewhere: the cookbook after the novel that is set in a kitchen.
    for number in range(len(books)):
        if number not in follow_up and rng.random() < COMPANION_SHARE:
            companion = rng.randrange(len(books))
            if books[companion].subject != books[number].subject:
                follow_up[number] = companion
    return Catalogue(tuple(books), shelves, follow_up)


def _titles(subject: str, rng: random.Random) -> Iterator[tuple[str, int]]:
    """Titles of a subject with their volume, 0 for a book that is in no series."""
    adjectives = rng.sample(ADJECTIVES, len(ADJECTIVES))
    for _ in range(SERIES_PER_SUBJECT):
        name = f"The {adjectives.pop()} {subject}"
        for volume in range(1, VOLUMES + 1):
            yield (name if volume == 1 else f"{name}, volume {volume}"), volume
    for _ in range(BOOKS_PER_SUBJECT - SERIES_PER_SUBJECT * VOLUMES):
        yield f"The {adjectives.pop()} {subject}", 0


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower().replace("volume ", "")).strip("-")
