"""What every model that writes text takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from meshwork.serving.task import Prepared, StreamTask


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """What a request asks for."""

    temperature: float = 0.0  # 0: the likeliest token always; 1: as the model thinks; above: wilder
    top_k: int = 0  # 0 for no bound
    top_p: float = 1.0  # more than 0, at most 1
    repetition_penalty: float = 1.0  # above 0; 1 for none
    seed: int | None = None  # None for one that nobody knows


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a caller asks to be written."""

    prompt: str = ""  # or messages
    messages: tuple[Message, ...] = ()
    max_output_tokens: int
    stop: tuple[str, ...] = ()
    sampling: Sampling


class Finish(Enum):
    """Why a text is over."""

    END = "the model ended it"
    STOP = "it came to a stop text"
    LENGTH = "it has as many tokens as it may"


@dataclass(frozen=True, slots=True)
class Piece:
    """What comes next in a text."""

    text: str
    finish: Finish | None = None  # None while more is to come
    prompt_tokens: int = 0
    output_tokens: int = 0  # so far, an end mark included


class TextGenerator(StreamTask[Order, Prepared, Piece, Piece]):
    """Writes text that goes on from a prompt or answers a chat."""

    methods: ClassVar[tuple[str, ...]] = ("Generate",)
