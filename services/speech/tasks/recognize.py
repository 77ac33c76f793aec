"""The question of Recognize: what is said in a recording, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from meshwork.errors import InvalidArgument
from meshwork.serving.task import Task
from services.speech.tasks.audio import AudioInput

Prepared = TypeVar("Prepared")
Raw = TypeVar("Raw")


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word that was heard."""

    word: str
    start_s: float | None  # from the beginning of the recording; None if the model tells no times
    end_s: float | None  # not before start_s
    confidence: float  # 0 to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What was heard in a recording."""

    text: str  # empty if no speech was found
    confidence: float  # of the whole, 0 to 1
    words: tuple[Word, ...]  # in the order in which they were said
    duration_s: float  # of the recording
    language: str = ""  # BCP-47, that was heard; "" if the model does not say


class Recognizer(Task[AudioInput, Prepared, Raw, Transcript]):
    """A model that writes down what is said."""

    def observed(self, out: Transcript) -> tuple[float, str] | None:
        """How sure it is of what it heard, and the language."""
        return out.confidence, out.language


def check_language(audio: AudioInput, spoken: str) -> None:
    """Refuses a recording in another language than the one that a model hears.

    Args:
        audio: its `language` is what the caller says, if anything.
        spoken: the model's BCP-47 language, "" if that is not known.

    Raises:
        InvalidArgument: they differ.
    """
    said = audio.language.lower().partition("-")[0]
    if said and said != spoken.lower().partition("-")[0]:
        hears = f"hears {spoken} only" if spoken else "does not say which language it hears; leave it empty"
        raise InvalidArgument(f"is {audio.language[:40]!r}, and this model {hears}", field="language_code")
