"""The question of Synthesize: a text, spoken."""

from __future__ import annotations

import io
import wave
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from meshwork.serving.task import Task

Prepared = TypeVar("Prepared")
Raw = TypeVar("Raw")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """What to say, and how."""

    text: str
    voice: str = ""  # a name of `Synthesizer.voices`, "" for the model's default
    speaking_rate: float = 1.0  # beside the voice's natural speed, 0.5 to 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """A text, spoken."""

    pcm: bytes  # one channel, signed 16-bit little-endian
    rate_hz: int
    voice: str  # the name of the voice that spoke

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.pcm) / 2 / self.rate_hz

    def wav(self) -> bytes:
        """As a WAV file."""
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(self.rate_hz)
            writer.writeframes(self.pcm)
        return file.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """A voice that a model can speak with."""

    name: str  # unique in its model
    language: str  # BCP-47
    display_name: str
    aliases: tuple[str, ...] = ()  # other BCP-47 tags that it serves

    def speaks(self, language: str) -> bool:
        """Whether it speaks `language` or a variety of it: `en` finds `en-GB` (RFC 4647, 3.3.1)."""
        wanted = language.lower()
        tags = [tag.lower() for tag in (self.language, *self.aliases)]
        return any(tag == wanted or tag.startswith(f"{wanted}-") for tag in tags)


class Synthesizer(Task[TextInput, Prepared, Raw, Speech]):
    """A model that speaks."""

    @property
    @abstractmethod
    def voices(self) -> Sequence[Voice]:
        """Every voice, by language and then by name."""
