"""What a service does with a model: one class with preprocess, forward and postprocess.

The runtime calls them as ::

    In --preprocess--> Prepared --forward, batched--> Raw --postprocess--> Out
       any CPU thread            the device's thread       any CPU thread

so that only `forward` ever holds the device, and one bad item fails alone. A task that answers in
many steps (text generation) is a StreamTask: its callers share each step instead of each batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, Generic, Self, TypeVar

from meshwork.errors import MeshworkError
from meshwork.serving.card import ModelDirectory
from meshwork.serving.engines.engine import Engine

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

    methods: ClassVar[tuple[str, ...]] = ()
    """Rpcs that a model of this task answers when it has no card that says so."""

    max_batch_items: ClassVar[int] = 256
    """Most items that one forward pass takes, where the network has a hard bound; how much work a
    batch should hold is learned from measured batches (`meshwork.serving.cost`)."""

    longest_batch_s: ClassVar[float] = 0.1
    """Seconds that a batch of several items should hold the device at most: urgent work waits for one."""

    shares_device: ClassVar[bool] = True
    """False if `forward` works elsewhere (in processes of its own), so that it need not take turns
    with the device's other models: the model gets a queue and a thread of its own."""

    light: ClassVar[bool] = False
    """True if preprocess and postprocess take well under 50 us on any input, so that handing them to
    another thread would cost more than it frees: they then run on the event loop, and so does `forward`
    for batches that were measured to take under 300 us."""

    light_answers: ClassVar[bool] = False
    """True if that can be said of postprocess alone."""

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

    def group(self, prepared: Prepared) -> Hashable:
        """Only items of equal groups share a batch, for example of one image size."""
        return None

    def padded_length(self, prepared: Prepared) -> int:
        """Length along the axis on which `forward` pads its batch; 0 if it does not pad."""
        return 0

    @abstractmethod
    def forward(self, batch: Sequence[Prepared]) -> Sequence[Raw | MeshworkError]:
        """Runs the network once over the batch: an answer, or an error, for each item in order."""

    @abstractmethod
    def postprocess(self, prepared: Prepared, raw: Raw) -> Out:
        """Turns the network's answer for one item into the service's."""

    def observed(self, out: Out) -> tuple[float, str] | None:
        """What tells how sure an answer is, 0 to 1, and what it says in a word ("" for no such word); None
        if it has neither. The mesh watches how both are distributed, and says when that changes."""
        return None

    @property
    def tensors(self) -> Engine | None:
        """The network as named arrays, for the Open Inference Protocol; None if it has no such form."""
        return None

    def memory_bytes(self) -> int:
        """Bytes that the weights take on the device; 0 to have it measured while the model loads."""
        return self.tensors.memory_bytes() if self.tensors else 0

    def close(self) -> None:
        """Gives back what garbage collection would not: engines, native decoders, files."""
        if self.tensors:
            self.tensors.close()


class StreamTask(Task[In, Prepared, Raw, Out]):
    """A loaded model that answers in many steps, each shared by all its callers (continuous batching).

    The device's thread calls `room_for`, `join`, `step` and `leave`; between two steps callers join
    and leave, and other models of the device take their turn. `Raw` is one piece of an answer.
    """

    @abstractmethod
    def room_for(self, prepared: Prepared) -> bool:
        """Whether the caller can join now: there is memory for it and a place among the active."""

    @abstractmethod
    def join(self, key: int, prepared: Prepared) -> None:
        """Takes a caller in under `key`; its first step comes with the next `step`.

        Raises:
            MeshworkError: this caller alone fails.
        """

    @abstractmethod
    def step(self) -> Sequence[tuple[int, Raw | MeshworkError, bool]]:
        """One step of all who joined: (key, a piece or an error, whether it was the last).

        A caller without a piece this time (its text is not yet a whole character) is left out.
        """

    @abstractmethod
    def leave(self, key: int) -> None:
        """Forgets `key` and frees what it held; nothing happens if it is not known."""

    def forward(self, batch: Sequence[Prepared]) -> Sequence[Raw | MeshworkError]:
        """Not used: steps take its place."""
        raise NotImplementedError("a StreamTask works in steps")
