"""The memory ledger: what each model holds on each device, and who must go when another needs room.

    free = capacity - sum over loaded models of (weights + workspace)

Both parts are measured: weights when the model has loaded, workspace as what its warm-up needed beyond
them. Room is made by the least recently used models that nobody uses at the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """One device's memory, in bytes."""

    capacity: int
    held: dict[str, int] = field(default_factory=dict)  # by name@version

    @property
    def free(self) -> int:
        """Bytes that no model holds; negative if they turned out to need more than there is."""
        return self.capacity - sum(self.held.values())

    def evictions(self, need: int, idle: Sequence[str]) -> list[str] | None:
        """Which models to unload so that `need` bytes are free.

        Args:
            need: bytes.
            idle: models that may go, the least recently used first.

        Returns:
            As few of the first of `idle` as will do; None if all of them would not.
        """
        missing = need - self.free
        chosen: list[str] = []
        for name in idle:
            if missing <= 0:
                break
            if self.held.get(name):
                chosen.append(name)
                missing -= self.held[name]
        if missing > 0:
            return None
        # An early small one may be needless beside a later large one.
        for name in list(chosen):
            if missing + self.held[name] <= 0:
                chosen.remove(name)
                missing += self.held[name]
        return chosen
