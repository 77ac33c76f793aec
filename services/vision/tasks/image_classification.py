"""Image classification by any network that transformers' AutoModelForImageClassification loads.

Files of a model directory: `config.json` (`id2label` names the classes), `model.safetensors`,
`preprocessor_config.json`. Parameters of the card: `exact_decode` (see `services.vision.tasks.image`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meshwork.serving.card import ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.pretrained import load_pretrained
from services.vision.tasks.classify import ImageClassifier, ImageInput, Scored
from services.vision.tasks.pixels import Pictured, Preprocessor, image_engine, stacked


@dataclass(frozen=True, slots=True)
class Asked:
    """An image made ready for the network, and how many classes its caller wants."""

    picture: Pictured
    top_k: int


class ImageClassification(ImageClassifier[Asked, NDArray[np.float32]]):
    """A network's classes; the unit of cost is the megapixel that the network sees."""

    methods = ("Classify",)

    def __init__(
        self, engine: Engine, preprocessor: Preprocessor, labels: tuple[str, ...], *, many: bool
    ) -> None:
        self._engine = engine
        self._preprocessor = preprocessor
        self._labels = labels
        self._many = many  # an image may be of several classes at once

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        preprocessor = Preprocessor.load(directory)
        network: Any = load_pretrained(
            "AutoModelForImageClassification", directory, "cpu", precision="float32"
        )
        config = network.config
        count = config.num_labels
        logits = TensorSpec(name="logits", dtype="float32", shape=(None, count))
        engine = image_engine(network, preprocessor, (logits,), directory=directory, device=device)
        labels = tuple(config.id2label.get(index, f"LABEL_{index}") for index in range(count))
        many = config.problem_type == "multi_label_classification" or count == 1
        return cls(engine, preprocessor, labels, many=many)

    def warm_up(self) -> None:
        """Runs batches of one and of several."""
        asked = Asked(self._preprocessor.example(), 1)
        self.forward([asked])
        self.forward([asked] * 4)

    def preprocess(self, request: ImageInput) -> Asked:
        """Decodes the image and prepares it as the model's own processor does.

        Raises:
            InvalidArgument: the bytes are no image, or one that the model does not take.
        """
        return Asked(self._preprocessor(request.content, request.field), request.top_k)

    def cost(self, prepared: Asked) -> float:
        """The image's megapixels as the network sees it."""
        return prepared.picture.megapixels

    def group(self, prepared: Asked) -> Hashable:
        """The image's size as the network sees it."""
        return prepared.picture.shape

    def forward(self, batch: Sequence[Asked]) -> Sequence[NDArray[np.float32]]:
        """A logit of each class: float32 [classes] each."""
        given = stacked([asked.picture for asked in batch], self._engine.inputs)
        return list(self._engine.run(given)["logits"])

    def postprocess(self, prepared: Asked, raw: NDArray[np.float32]) -> list[Scored]:
        """The likeliest classes: by softmax, or by sigmoid where an image may be of several classes."""
        logits = raw.astype(np.float64)
        if self._many:
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
        order = np.argsort(-scores, kind="stable")[: prepared.top_k]
        return [Scored(self._labels[index], float(scores[index])) for index in order]

    @property
    def tensors(self) -> Engine:
        """The network: `pixel_values` in, `logits` out."""
        return self._engine
