"""What the tasks on Hugging Face's text networks share: files in, tokens to the network, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine
from services.nlp.networks.layouts import read_config
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.networks.tensors import NamedTensors
from services.nlp.tokens import TextTokenizer, Tokens, Window, stated_longest

_LONGEST = 512  # where neither the network nor the tokenizer sets a bound


def config_of(directory: ModelDirectory, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of the directory, {} if it is not there.

    Raises:
        CardError: it is no mapping.
    """
    try:
        return read_config(directory.file(name)) if directory.has(name) else {}
    except ValueError as error:
        raise CardError(f"{directory.source}: {error}") from error


def labels_of(config: dict[str, Any], directory: ModelDirectory) -> tuple[str, ...]:
    """The classes' names in order, from `id2label`.

    Raises:
        CardError: they are not numbered from 0.
    """
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers takes
    try:
        return tuple(str(named[str(index)]) for index in range(len(named)))
    except (KeyError, TypeError) as error:
        raise CardError(
            f"{directory.source}: config.json: id2label should number the labels from 0"
        ) from error


def longest_text(directory: ModelDirectory, network: TextNetwork) -> int:
    """The most tokens that the model is meant to read."""
    stated = stated_longest(config_of(directory, "tokenizer_config.json"))
    return min(network.longest or _LONGEST, stated or network.longest or _LONGEST)


class OnNetwork:
    """The part of a task that only hands tokens to its network; the unit of cost is the token."""

    def __init__(self, network: TextNetwork, tokenizer: TextTokenizer, reading: Reading) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._tensors = NamedTensors(network, reading)

    def warm_up(self) -> None:
        """Runs one text, and several of different lengths."""
        texts = [self._tokenizer.text("A mesh answers. " * repeated) for repeated in (1, 1, 2, 5)]
        self._network(texts[:1])
        self._network(texts)

    def cost(self, prepared: Tokens | Window) -> float:
        """Its tokens."""
        return float(len(_tokens(prepared).ids))

    def padded_length(self, prepared: Tokens | Window) -> int:
        """Its tokens, if the network pads."""
        return len(_tokens(prepared).ids) if self._network.pads else 0

    def forward(self, batch: Sequence[Tokens | Window]) -> Sequence[Floats]:
        """What the network reads of each."""
        return self._network([_tokens(each) for each in batch])

    @property
    def tensors(self) -> Engine:
        """The network as named tensors."""
        return self._tensors

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return self._network.nbytes

    def close(self) -> None:
        """Closes the network."""
        self._network.close()


def _tokens(prepared: Tokens | Window) -> Tokens:
    return prepared.tokens if isinstance(prepared, Window) else prepared
