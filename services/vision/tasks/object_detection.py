"""Object detection by any network that transformers' AutoModelForObjectDetection loads.

Files of a model directory: `config.json` (`id2label` names the classes), `model.safetensors`,
`preprocessor_config.json`. Parameters of the card: `exact_decode` (see `services.vision.tasks.image`).

Networks that take images of many sizes (DETR) get only images of one size in a batch: padding one to
another's size would change what is found near its edges.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.pretrained import load_pretrained
from services.vision.tasks.detect import Detected, DetectInput, Found, ObjectDetector
from services.vision.tasks.pixels import Pictured, Preprocessor, image_engine, stacked


@dataclass(frozen=True, slots=True)
class Sought:
    """An image made ready for the network, and which objects its caller wants."""

    picture: Pictured
    min_score: float
    max_results: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the network says of one image."""

    logits: NDArray[np.float32]  # [queries, classes]
    boxes: NDArray[np.float32]  # [queries, 4]: centre x and y, width, height, in fractions of the image


class ObjectDetection(ObjectDetector[Sought, Boxes]):
    """A network's objects; the unit of cost is the megapixel that the network sees."""

    methods = ("Detect",)

    def __init__(self, engine: Engine, preprocessor: Preprocessor, config: Any) -> None:
        self._engine = engine
        self._preprocessor = preprocessor
        self._labels: dict[int, str] = dict(config.id2label)
        self._post_process = preprocessor.processor.post_process_object_detection
        self._options: dict[str, bool] = {}
        if "use_focal_loss" in inspect.signature(self._post_process).parameters:
            self._options["use_focal_loss"] = bool(getattr(config, "use_focal_loss", True))

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        preprocessor = Preprocessor.load(directory)
        if not hasattr(preprocessor.processor, "post_process_object_detection"):
            name = type(preprocessor.processor).__name__
            raise CardError(f"{directory.source}: its image processor, {name}, cannot read boxes")
        network: Any = load_pretrained("AutoModelForObjectDetection", directory, "cpu", precision="float32")
        config = network.config
        outputs = (
            TensorSpec(name="logits", dtype="float32", shape=(None, None, None)),
            TensorSpec(name="pred_boxes", dtype="float32", shape=(None, None, 4)),
        )
        engine = image_engine(network, preprocessor, outputs, directory=directory, device=device)
        return cls(engine, preprocessor, config)

    def warm_up(self) -> None:
        """Looks at an ordinary image."""
        sought = Sought(self._preprocessor.example(), 0.5, 1)
        for boxes in self.forward([sought]):
            self.postprocess(sought, boxes)

    def preprocess(self, request: DetectInput) -> Sought:
        """Decodes the image and prepares it as the model's own processor does.

        Raises:
            InvalidArgument: the bytes are no image, or one that the model does not take.
        """
        picture = self._preprocessor(request.content, request.field)
        return Sought(picture, request.min_score, request.max_results)

    def cost(self, prepared: Sought) -> float:
        """The image's megapixels as the network sees it."""
        return prepared.picture.megapixels

    def group(self, prepared: Sought) -> Hashable:
        """The image's size as the network sees it."""
        return prepared.picture.shape

    def forward(self, batch: Sequence[Sought]) -> Sequence[Boxes]:
        """Every query's classes and box."""
        answer = self._engine.run(stacked([sought.picture for sought in batch], self._engine.inputs))
        return [Boxes(*pair) for pair in zip(answer["logits"], answer["pred_boxes"], strict=True)]

    def postprocess(self, prepared: Sought, raw: Boxes) -> Detected:
        """The objects that score enough, as the model's own processor reads them, cut to the image."""
        width, height = prepared.picture.width, prepared.picture.height
        answer = SimpleNamespace(
            logits=torch.from_numpy(raw.logits)[None], pred_boxes=torch.from_numpy(raw.boxes)[None]
        )
        (read,) = self._post_process(
            answer, threshold=prepared.min_score, target_sizes=[(height, width)], **self._options
        )
        scores, labels = read["scores"].numpy(), read["labels"].numpy()
        boxes = np.clip(read["boxes"].numpy(), 0, [width, height, width, height])
        order = np.argsort(-scores, kind="stable")[: prepared.max_results]
        found = [
            Found(self._label(int(labels[index])), float(scores[index]), *map(float, boxes[index]))
            for index in order
        ]
        return Detected(found, width, height)

    def _label(self, index: int) -> str:
        return self._labels.get(index, f"LABEL_{index}")

    @property
    def tensors(self) -> Engine:
        """The network: `pixel_values` in, `logits` and `pred_boxes` out."""
        return self._engine
