"""Text classification by Hugging Face's `...ForSequenceClassification`, zero-shot included.

Files of a model directory: `config.json` (`id2label`, `problem_type`), the weights, the tokenizer. A
model that was trained on entailment (one of its labels begins with "entail") also sorts texts into a
caller's labels; the card's parameter `hypothesis` is what it is asked ("This example is {label}.").
"""

from __future__ import annotations

from typing import ClassVar, Self

from meshwork.serving.card import CardError, ModelDirectory
from services.nlp.networks.network import load_network
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tasks.classify import HYPOTHESIS, Classes, Question, TextClassifier
from services.nlp.tasks.reader import OnNetwork, config_of, labels_of, longest_text
from services.nlp.tokens import TextTokenizer, Tokens, load_tokenizer


class TextClassification(OnNetwork, TextClassifier[Tokens, Floats]):
    """A network with a head of classes."""

    methods: ClassVar[tuple[str, ...]] = ("ClassifyText",)
    light_answers = True

    def __init__(self, network: TextNetwork, tokenizer: TextTokenizer, classes: Classes) -> None:
        super().__init__(network, tokenizer, Reading.CLASSES)
        self._classes = classes

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        network = load_network(directory, device, Reading.CLASSES)
        tokenizer = TextTokenizer(load_tokenizer(directory), longest_text(directory, network))
        return cls(network, tokenizer, _classes(directory))

    @property
    def classes(self) -> Classes:
        """The classes that its head gives scores."""
        return self._classes

    def preprocess(self, request: Question) -> Tokens:
        """Splits the text, and what is asked about it, into tokens.

        Raises:
            InvalidArgument: there are none, or the hypothesis leaves no room for the text.
        """
        if request.hypothesis:
            return self._tokenizer.pair(request.text, request.hypothesis, "labels")
        return self._tokenizer.text(request.text)

    def postprocess(self, prepared: Tokens, raw: Floats) -> Floats:
        """The logits."""
        return raw


def _classes(directory: ModelDirectory) -> Classes:
    config = config_of(directory)
    labels = labels_of(config, directory)
    hypothesis = directory.card.parameters.get("hypothesis", HYPOTHESIS)
    if not isinstance(hypothesis, str) or "{label}" not in hypothesis:
        raise CardError(f"{directory.source}: parameters: hypothesis should hold {{label}}")
    problem = config.get("problem_type")
    return Classes(
        labels=labels,
        independent=problem == "multi_label_classification" or len(labels) == 1,
        bounded=problem != "regression",
        entailment=next(
            (index for index, label in enumerate(labels) if label.lower().startswith("entail")), None
        ),
        hypothesis=hypothesis,
    )
