"""The networks as the peers run them: a function from a batch of inputs to an array, no server in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from benchmarks.peers.places import IMAGE_MODEL, TEXT_MODEL, VECTOR_MODEL

Array = npt.NDArray[np.float32]
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SIDE = 224
MOST_LIKELY = 5


class Text:
    """Texts -> probabilities of two classes, [n, 2]; one forward pass padded to the longest text."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer
        from transformers import BertForSequenceClassification

        self._tokenizer = Tokenizer.from_file(str(TEXT_MODEL / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._network: Any = BertForSequenceClassification.from_pretrained(TEXT_MODEL).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Array:
        """The scores of each text."""
        rows = [encoded.ids for encoded in self._tokenizer.encode_batch_fast(list(texts))]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        output = self._network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return _array(output.logits.softmax(-1))


class Vector:
    """Vectors [n, 64] -> [n, 8]."""

    def __init__(self) -> None:
        self._weight = torch.from_numpy(np.load(VECTOR_MODEL / "weight.npy"))

    @torch.inference_mode()
    def __call__(self, vectors: Sequence[Array] | Array) -> Array:
        """The product with the matrix."""
        return _array(torch.from_numpy(np.array(vectors, np.float32)) @ self._weight)


class Image:
    """JPEG files -> [n, 10]: the five likeliest classes' numbers, then their probabilities."""

    def __init__(self) -> None:
        from transformers import ResNetForImageClassification

        self._network: Any = ResNetForImageClassification.from_pretrained(IMAGE_MODEL).eval()

    @torch.inference_mode()
    def probabilities(self, images: Sequence[bytes]) -> Array:
        """Of all classes, [n, 1000]."""
        batch = torch.from_numpy(np.stack([pixels(image) for image in images]))
        return _array(self._network(batch).logits.softmax(-1))

    def __call__(self, images: Sequence[bytes]) -> Array:
        """The likeliest classes of each image."""
        scores, classes = torch.from_numpy(self.probabilities(images)).topk(MOST_LIKELY)
        return _array(torch.cat([classes.float(), scores], 1))


def pixels(jpeg: bytes) -> Array:
    """The network's input, [3, 224, 224]: stretched to a square, scaled, normalised."""
    image = PIL.Image.open(io.BytesIO(jpeg)).convert("RGB")
    square = np.asarray(image.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR), np.float32)
    return np.asarray((square / 255 - MEAN) / STD, np.float32).transpose(2, 0, 1)


def load(name: str, threads: int) -> Callable[[Sequence[Any]], Array]:
    """The function of a workload, torch set to that many threads a forward pass."""
    torch.set_num_threads(threads)
    kinds: dict[str, Callable[[], Callable[[Sequence[Any]], Array]]] = {
        "text": Text,
        "vector": Vector,
        "image": Image,
    }
    return kinds[name]()


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.numpy()
    return array
