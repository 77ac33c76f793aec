"""What every model that tells languages apart takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from meshwork.serving.task import Prepared, Raw, Task


@dataclass(frozen=True, slots=True)
class Likely:
    """A language that a text may be in."""

    code: str  # BCP-47
    probability: float  # 0 to 1; over all languages of the model they add up to 1


class LanguageDetector(Task[str, Prepared, Raw, list[Likely]]):
    """Says which language a text is in: every language that it knows, likeliest first."""
