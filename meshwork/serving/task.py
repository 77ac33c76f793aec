"""What a service does with a model: one class with preprocess, forward and postprocess.

The runtime calls them as ::

    In --preprocess--> Prepared --forward, batched--> Raw --postprocess--> Out
       any CPU thread            the device's thread       any CPU thread

so that only `forward` ever holds the device, and one bad item fails alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, Self, TypeVar

from meshwork.errors import MeshworkError
from meshwork.serving.card import ModelDirectory

In = TypeVar("In")
Prepared = TypeVar("Prepared")
Raw = TypeVar("Raw")
Out = TypeVar("Out")


class Task(ABC, Generic[In, Prepared, Raw, Out]):
    """A loaded model that answers one kind of question.

    `In` and `Out` are plain data of the service (no protobuf, no tensors); `Prepared` and `Raw`
    are the task's own. Every method but `load` and `warm_up` may be called from several threads
    at once, except `forward`, which one thread a device calls.
    """

    max_batch_cost: ClassVar[float] = 32.0
    """Most cost, in `cost`'s unit, that one forward pass takes; a single item may exceed it."""

    shares_device: ClassVar[bool] = True
    """False if `forward` works elsewhere (in processes of its own), so that it need not take turns
    with the device's other models: the model gets a queue and a thread of its own."""

    @classmethod
    @abstractmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device` (`cpu`, `cuda:0`).

        Raises:
            CardError: a file is missing or does not fit the network.
        """

    @abstractmethod
    def warm_up(self) -> None:
        """Runs once on a typical input, so that the first caller does not pay for it."""

    @abstractmethod
    def preprocess(self, request: In) -> Prepared:
        """Decodes and checks one input.

        Raises:
            InvalidArgument: the input is wrong; names the request's field.
        """

    def cost(self, prepared: Prepared) -> float:
        """What the item costs the device, in the task's unit (items, tokens, pixels, seconds)."""
        return 1.0

    @abstractmethod
    def forward(self, batch: Sequence[Prepared]) -> Sequence[Raw | MeshworkError]:
        """Runs the network once over the batch: an answer, or an error, for each item in order."""

    @abstractmethod
    def postprocess(self, prepared: Prepared, raw: Raw) -> Out:
        """Turns the network's answer for one item into the service's."""

    def close(self) -> None:
        """Gives back what garbage collection would not: native decoders, files."""
