"""Extractive question answering by Hugging Face's `...ForQuestionAnswering`.

Files of a model directory: `config.json`, the weights, the tokenizer. The card's parameter `window` is
the most tokens of question and context that are read at once (384, as these models are trained).
"""

from __future__ import annotations

from typing import ClassVar, Self

from meshwork.serving.card import CardError, ModelDirectory
from services.nlp.networks.network import load_network
from services.nlp.networks.reading import Floats, Reading
from services.nlp.tasks.answer import Answerer
from services.nlp.tasks.reader import OnNetwork, longest_text
from services.nlp.tokens import TextTokenizer, Window, load_tokenizer

_WINDOW = 384
_OVERLAP = 128  # tokens that neighbouring windows share, if they are at least four times as long


class QuestionAnswering(OnNetwork, Answerer[Window, Floats]):
    """A network that marks where an answer begins and ends."""

    methods: ClassVar[tuple[str, ...]] = ("AnswerQuestion",)
    light: ClassVar[bool] = True

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        network = load_network(directory, device, Reading.ANSWER)
        window = directory.card.parameters.get("window", _WINDOW)
        if not isinstance(window, int) or window < 16:
            raise CardError(f"{directory.source}: parameters: window should be 16 tokens or more")
        longest = min(window, longest_text(directory, network))
        tokenizer = TextTokenizer(
            load_tokenizer(directory), longest, cut="only_second", overlap=min(_OVERLAP, longest // 4)
        )
        return cls(network, tokenizer, Reading.ANSWER)

    def windows(self, question: str, context: str) -> list[Window]:
        """The context as windows, each behind the question.

        Raises:
            InvalidArgument: the question leaves no room for a context.
        """
        return self._tokenizer.windows_behind(question, context, "question")

    def preprocess(self, request: Window) -> Window:
        """The window: it was made ready with its context."""
        return request

    def postprocess(self, prepared: Window, raw: Floats) -> Floats:
        """The logits: [tokens, 2]."""
        return raw
