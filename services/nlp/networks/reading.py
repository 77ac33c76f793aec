"""What is read off a text network's last layer: the scores of a head, or a vector for the whole text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.engines.engine import Engine
from services.nlp.tokens import Tokens

Floats = NDArray[np.float32]


class Reading(Enum):
    """What is read of a text."""

    CLASSES = auto()  # a score for each class: [classes]
    TAGS = auto()  # a score for each tag, of each token: [tokens, tags]
    ANSWER = auto()  # of each token, that the answer begins and ends there: [tokens, 2]
    MEAN = auto()  # the mean of the tokens' vectors: [hidden]
    CLS = auto()  # the first token's vector
    MAX = auto()  # the greatest of the tokens' vectors, number by number

    @property
    def auto_class(self) -> str:
        """Name of transformers' class."""
        head = {Reading.CLASSES: "SequenceClassification", Reading.TAGS: "TokenClassification"}
        head[Reading.ANSWER] = "QuestionAnswering"
        return f"AutoModelFor{head[self]}" if self in head else "AutoModel"

    @property
    def by_token(self) -> bool:
        """Whether each token has its own numbers, rather than the text as a whole."""
        return self in (Reading.TAGS, Reading.ANSWER)


class TextNetwork(ABC):
    """A network with what is read off it, on its device."""

    pads: bool  # it pads a batch to its longest text
    longest: int | None  # most tokens of a text; None if the network sets no bound
    vocabulary: int  # token ids are below it
    kinds: int  # of token that it tells apart; 1 if it does not
    engine: Engine | None = None  # what runs it, if it does not run itself

    @abstractmethod
    def __call__(self, batch: Sequence[Tokens]) -> list[Floats]:
        """What is read of each text, in order; float32."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the weights."""

    def close(self) -> None:
        """Gives back what garbage collection would not."""
        if self.engine is not None:
            self.engine.close()
