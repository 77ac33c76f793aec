"""What a recommender is asked and what it answers; each model of this task is one file beside this one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

from meshwork.serving.task import Prepared, Raw, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """Which items may be returned, and how many."""

    count: int = 10  # at most; fewer where fewer are left
    categories: tuple[str, ...] = ()  # of one of these; empty for all
    excluded: frozenset[str] = frozenset()  # never these; ones the model does not know are no error


@dataclass(frozen=True, kw_only=True, slots=True)
class Next:
    """What would somebody take next?"""

    history: tuple[str, ...]  # oldest first; may be empty, and may hold items that the model does not know
    include_seen: bool = False  # whether items of the history may be returned
    wish: Wish = field(default_factory=Wish)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """What is most like an item?"""

    item: str
    # For an item that the model does not know: items taken shortly before it -> how often.
    neighbours: Mapping[str, float] = field(default_factory=dict)
    wish: Wish = field(default_factory=Wish)


Query = Next | Alike


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredItem:
    """An item of the catalogue and how well it fits; higher is better."""

    id: str
    title: str
    category: str
    score: float  # Next: probability of being taken next; Alike: cosine, -1 to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendations:
    """Items, best first."""

    items: tuple[ScoredItem, ...]
    history_size: int  # items that the answer rests on; 0 when popularity answered


class Recommender(Task[Query, Prepared, Raw, Recommendations], Generic[Prepared, Raw]):
    """Answers both questions.

    `preprocess` raises InvalidArgument at `filter.categories[i]` for a category that the catalogue
    does not have, and NotFound for an `Alike` about which it knows neither item nor neighbour.
    """

    @abstractmethod
    def knows(self, item: str) -> bool:
        """Whether the item is in the model's catalogue."""
