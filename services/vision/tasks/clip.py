"""CLIP: images and texts in one space, and images sorted into any labels.

Files of a model directory: `config.json`, `model.safetensors`, `preprocessor_config.json`, and the
tokenizer's. Parameters of the card: `phrase`, what stands for a label ("This is a photo of {label}." as
in transformers' pipeline), and `exact_decode` (see `services.vision.tasks.image`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.engines.select import engine_for
from meshwork.serving.pretrained import load_pretrained, load_processor
from services.vision.networks.towers import ImageTower, TextTower, weights
from services.vision.tasks.embed import LABEL, Embedded, ImageEmbedder, ImageToEmbed, TextToEmbed, ZeroShot
from services.vision.tasks.pixels import Pictured, Preprocessor, image_engine, stacked

PHRASE = "This is a photo of {label}."
_TEXTS = "texts"  # the group of all texts


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the network reads it."""

    ids: NDArray[np.int64]  # [tokens], the last one the end mark
    truncated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Towers:
    """The two networks, and what of theirs the task needs to know."""

    image: Engine
    text: Engine
    image_cost: float  # of an image, in the text network's tokens of equal work
    scale: float


class Clip(ImageEmbedder[Pictured | Tokens, NDArray[np.float32]]):
    """A CLIP network; the unit of cost is the token of its text network."""

    methods = ("Classify", "EmbedImage")

    def __init__(
        self, towers: Towers, preprocessor: Preprocessor, tokenizer: Any, zero_shot: ZeroShot
    ) -> None:
        self._towers = towers
        self._preprocessor = preprocessor
        self._tokenizer = tokenizer
        self._zero_shot = zero_shot

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        phrase = directory.card.parameters.get("phrase", PHRASE)
        if not isinstance(phrase, str) or LABEL not in phrase:
            raise CardError(f"{directory.source}: parameters: phrase: should be a text with {LABEL} in it")
        preprocessor = Preprocessor.load(directory)
        # Through the tokenizers library, which several threads may use at once when nothing is set in calls.
        reader = load_processor("AutoTokenizer", directory)
        tokenizer = getattr(reader, "backend_tokenizer", None)
        if tokenizer is None:
            raise CardError(f"{directory.source}: has no tokenizer.json; save it with a current transformers")
        network: Any = load_pretrained(
            "AutoModelForZeroShotImageClassification", directory, "cpu", precision="float32"
        )
        config = network.config
        if config.model_type != "clip":  # its relatives read texts in other ways
            raise CardError(f"{directory.source}: is of kind {config.model_type!r}, not 'clip'")
        tokenizer.enable_truncation(min(reader.model_max_length, config.text_config.max_position_embeddings))
        tokenizer.no_padding()
        towers = _towers(network, directory, device, preprocessor)
        return cls(towers, preprocessor, tokenizer, ZeroShot(phrase=phrase, scale=towers.scale))

    @property
    def zero_shot(self) -> ZeroShot:
        """How this model's vectors sort images into labels."""
        return self._zero_shot

    def warm_up(self) -> None:
        """Embeds images and texts, one and several."""
        picture = self._preprocessor.example()
        tokens = [
            self.preprocess(TextToEmbed(text=text, field="texts"))
            for text in ("a cat", "a photo of a dog in the snow")
        ]
        for batch in ([picture], [picture] * 4, tokens[:1], tokens):
            self.forward(batch)

    def preprocess(self, request: ImageToEmbed | TextToEmbed) -> Pictured | Tokens:
        """Prepares an image as the model's own processor does, or splits a text into tokens.

        Raises:
            InvalidArgument: the bytes are no image, or one that the model does not take; or a text that
                is to be read whole is too long.
        """
        if isinstance(request, ImageToEmbed):
            return self._preprocessor(request.content, request.field)
        encoding = self._tokenizer.encode(request.text)
        if encoding.overflowing and request.whole:
            longest = len(encoding.ids)
            raise InvalidArgument(
                f"is longer than the {longest} tokens that the model reads; shorten it", field=request.field
            )
        return Tokens(np.array(encoding.ids, np.int64), bool(encoding.overflowing))

    def cost(self, prepared: Pictured | Tokens) -> float:
        """The text's tokens, or an image's equal of them."""
        return float(len(prepared.ids)) if isinstance(prepared, Tokens) else self._towers.image_cost

    def group(self, prepared: Pictured | Tokens) -> Hashable:
        """Texts, or images of one size."""
        return _TEXTS if isinstance(prepared, Tokens) else prepared.shape

    def padded_length(self, prepared: Pictured | Tokens) -> int:
        """The text's tokens; images are not padded."""
        return len(prepared.ids) if isinstance(prepared, Tokens) else 0

    def forward(self, batch: Sequence[Pictured | Tokens]) -> Sequence[NDArray[np.float32]]:
        """A unit vector for each image, or for each text: float32 [dimension] each."""
        texts = [each for each in batch if isinstance(each, Tokens)]
        images = [each for each in batch if isinstance(each, Pictured)]
        assert not (texts and images), "one group holds images, another texts"
        if texts:
            vectors = self._towers.text.run({"input_ids": _padded(texts)})["vectors"]
        else:
            vectors = self._towers.image.run(stacked(images, self._towers.image.inputs))["vectors"]
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return list((vectors / np.maximum(lengths, 1e-12)).astype(np.float32))

    def postprocess(self, prepared: Pictured | Tokens, raw: NDArray[np.float32]) -> Embedded:
        """The vector, and whether all of the text is in it."""
        return Embedded(raw, isinstance(prepared, Tokens) and prepared.truncated)

    @property
    def tensors(self) -> Engine:
        """The image network: `pixel_values` in, `vectors` (not of length 1) out."""
        return self._towers.image

    def memory_bytes(self) -> int:
        """Both networks' weights."""
        return self._towers.image.memory_bytes() + self._towers.text.memory_bytes()

    def close(self) -> None:
        """Closes the engines."""
        self._towers.image.close()
        self._towers.text.close()


def _padded(texts: Sequence[Tokens]) -> NDArray[np.int64]:
    """The texts' ids, each filled up with its end mark: int64 [texts, tokens]."""
    longest = max(len(each.ids) for each in texts)
    ids = np.empty((len(texts), longest), np.int64)
    for row, each in zip(ids, texts, strict=True):
        row[: len(each.ids)] = each.ids
        row[len(each.ids) :] = each.ids[-1]
    return ids


def _towers(network: Any, directory: ModelDirectory, device: str, preprocessor: Preprocessor) -> Towers:
    scale = math.exp(network.logit_scale.detach().item())
    image, text = ImageTower(network), TextTower(network)
    vision = network.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    image_cost = patches * weights(image) / weights(text)
    vectors = (TensorSpec(name="vectors", dtype="float32", shape=(None, network.config.projection_dim)),)
    return Towers(
        image=image_engine(image, preprocessor, vectors, directory=directory, device=device),
        text=engine_for(
            text,
            directory=directory,
            device=device,
            inputs=(TensorSpec(name="input_ids", dtype="int64", shape=(None, None)),),
            outputs=vectors,
            example={"input_ids": np.ones((2, 5), np.int64)},
        ),
        image_cost=image_cost,
        scale=scale,
    )
