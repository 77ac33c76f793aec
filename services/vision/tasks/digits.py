"""Reads one handwritten digit off a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.engines.select import engine_for
from services.vision.networks.digit_cnn import SIDE, DigitCnn, blank
from services.vision.tasks.classify import ImageClassifier, ImageInput, Scored
from services.vision.tasks.image import decode
from services.vision.tasks.ink import NothingDrawn, normalised_ink

LABELS = tuple("0123456789")
LONGEST_PX = 1024  # a digit of a tenth of the picture is still a hundred pixels


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture made ready for the network."""

    ink: NDArray[np.float32]  # [32, 32]
    top_k: int


class _Probabilities(nn.Module):
    """Probabilities where `DigitCnn` gives logits."""

    def __init__(self, network: DigitCnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, ink: Tensor) -> Tensor:
        """float32 [batch, 32, 32] to [batch, 10]."""
        logits: Tensor = self.network(ink)
        return logits.softmax(-1)


class Digits(ImageClassifier[Drawing, NDArray[np.float32]]):
    """`DigitCnn` on the drawing that `normalised_ink` finds; the unit of cost is the image."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads `model.safetensors`.

        Raises:
            CardError: it is missing or does not fit the network.
        """
        file = directory.file("model.safetensors")
        network = blank()
        try:
            network.load_state_dict(load_file(file), assign=True)
        except (SafetensorError, RuntimeError) as error:
            raise CardError(f"{file}: does not fit the digit network: {error}") from error
        ink = TensorSpec("ink", "float32", (None, SIDE, SIDE))
        engine = engine_for(
            _Probabilities(network),
            directory=directory,
            device=device,
            inputs=(ink,),
            outputs=(TensorSpec("probabilities", "float32", (None, len(LABELS))),),
            example={ink.name: np.zeros((2, SIDE, SIDE), np.float32)},
        )
        return cls(engine)

    def warm_up(self) -> None:
        """Runs batches of one and of several."""
        drawing = Drawing(np.zeros((SIDE, SIDE), np.float32), 1)
        self.forward([drawing])
        self.forward([drawing] * 8)

    def preprocess(self, request: ImageInput) -> Drawing:
        """Decodes the image and finds the drawing in it.

        Raises:
            InvalidArgument: the bytes are no image, or nothing is drawn on it.
        """
        picture = decode(request.content, field=request.field, longest_px=LONGEST_PX)
        try:
            return Drawing(normalised_ink(picture), request.top_k)
        except NothingDrawn as error:
            raise InvalidArgument(
                "shows one even surface; send a picture with a digit that stands out from its background",
                field=request.field,
            ) from error

    def forward(self, batch: Sequence[Drawing]) -> Sequence[NDArray[np.float32]]:
        """Probabilities of the ten digits for each drawing: float32 [10] each."""
        return list(self._engine.run({"ink": np.stack([drawing.ink for drawing in batch])})["probabilities"])

    def postprocess(self, prepared: Drawing, raw: NDArray[np.float32]) -> list[Scored]:
        """The likeliest digits."""
        order = np.argsort(-raw, kind="stable")[: prepared.top_k]
        return [Scored(LABELS[index], float(raw[index])) for index in order]

    @property
    def tensors(self) -> Engine:
        """`ink`, as `normalised_ink` makes it, to `probabilities`."""
        return self._engine
