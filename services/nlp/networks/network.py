"""A network that reads batches of texts: packed where its architecture is known, else by transformers.

==============  =======================================================================
packed          BERT, RoBERTa (XLM-RoBERTa, CamemBERT), DistilBERT: `Encoder`, no padding
padded          whatever else transformers' Auto class loads (DeBERTa, ELECTRA, ...)
==============  =======================================================================

What is read off the last layer is a `Reading`: the scores of a head, or a vector for the whole text.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.devices import torch_device
from meshwork.serving.pretrained import load_pretrained
from services.nlp.networks.encoder import Encoder, Weights
from services.nlp.networks.layouts import EncoderConfig, Layout, Step, read_config
from services.nlp.networks.packing import Packing, pack
from services.nlp.tokens import Tokens

Floats = NDArray[np.float32]


class Reading(Enum):
    """What is read of a text."""

    CLASSES = auto()  # a score for each class: [classes]
    TAGS = auto()  # a score for each tag, of each token: [tokens, tags]
    ANSWER = auto()  # of each token, that the answer begins and ends there: [tokens, 2]
    MEAN = auto()  # the mean of the tokens' vectors: [hidden]
    CLS = auto()  # the first token's vector
    MAX = auto()  # the greatest of the tokens' vectors, number by number

    @property
    def auto_class(self) -> str:
        """Name of transformers' class."""
        head = {Reading.CLASSES: "SequenceClassification", Reading.TAGS: "TokenClassification"}
        head[Reading.ANSWER] = "QuestionAnswering"
        return f"AutoModelFor{head[self]}" if self in head else "AutoModel"

    @property
    def by_token(self) -> bool:
        """Whether each token has its own numbers, rather than the text as a whole."""
        return self in (Reading.TAGS, Reading.ANSWER)


class TextNetwork(ABC):
    """A network with what is read off it, on its device."""

    pads: bool  # it pads a batch to its longest text
    longest: int | None  # most tokens of a text; None if the network sets no bound

    @abstractmethod
    def __call__(self, batch: Sequence[Tokens]) -> list[Floats]:
        """What is read of each text, in order; float32."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the weights."""


def load_network(directory: ModelDirectory, device: str, reading: Reading) -> TextNetwork:
    """The network of a Hugging Face directory, in the card's precision.

    Raises:
        CardError: a file is missing or does not fit.
    """
    try:
        raw = read_config(directory.file("config.json"))
        config = EncoderConfig.of(raw)
        if config is None:
            return PaddedNetwork(load_pretrained(reading.auto_class, directory, device), reading, device)
        stored = _stored(directory, reading, config.layout)
        return PackedNetwork(config, stored, reading, device, getattr(torch, directory.card.precision))
    except CardError:
        raise
    except (ValueError, TypeError, SafetensorError) as error:
        raise CardError(f"{directory.source}: {error}") from error


def _stored(directory: ModelDirectory, reading: Reading, layout: Layout) -> dict[str, Tensor]:
    """The weights by name, without the layout's prefix; BERT's first files call a norm's gamma and beta."""
    folder = directory.weights_folder
    if not any(folder.glob("*.safetensors")) and any(folder.glob("pytorch_model.bin*")):
        stored = load_pretrained(reading.auto_class, directory, "cpu").state_dict()
    elif directory.has("model.safetensors.index.json"):
        parts = set(read_config(directory.file("model.safetensors.index.json"))["weight_map"].values())
        stored = {name: tensor for part in parts for name, tensor in load_file(directory.file(part)).items()}
    else:
        stored = load_file(directory.file("model.safetensors"))
    return {
        name.removeprefix(layout.prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in stored.items()
    }


class PackedNetwork(TextNetwork):
    """The packed encoder and its head, which is a few linear layers on rows, in float32."""

    pads = False

    def __init__(
        self,
        config: EncoderConfig,
        stored: Mapping[str, Tensor],
        reading: Reading,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self._device = torch_device(device)
        self._reading = reading
        first_only = reading in (Reading.CLASSES, Reading.CLS)
        self._encoder = Encoder(config, stored, self._device, dtype, first_only=first_only)
        self.longest = self._encoder.longest
        steps: tuple[Step, ...] = {
            Reading.CLASSES: config.layout.classifier,
            Reading.TAGS: (("classifier", ""),),
            Reading.ANSWER: (("qa_outputs", ""),),
        }.get(reading, ())
        weights = Weights(stored, self._device, torch.float32)
        self._head = [(*weights.linear(name), activation) for name, activation in steps]

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Tokens]) -> list[Floats]:
        """Runs the batch as one packing."""
        encoder = self._encoder
        packing = pack(
            batch,
            self._device,
            positions=encoder.positions,
            kinds=encoder.kinds,
            unplaced=encoder.unplaced,
        )
        rows = encoder(packing).float()
        for weight, bias, activation in self._head:
            rows = functional.linear(rows, weight, bias)
            if activation:
                rows = getattr(torch, activation)(rows)
        if self._reading in (Reading.MEAN, Reading.MAX):
            rows = _pooled(rows, packing, self._reading)
        found: Floats = rows.cpu().numpy()
        if self._reading.by_token:
            parts = [
                found[start:][:length] for start, length in zip(packing.starts, packing.lengths, strict=True)
            ]
        else:
            parts = list(found)
        return [parts[place] for place in np.argsort(packing.order)]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self._encoder.nbytes + sum(weight.nbytes for weight, *_ in self._head)


def _pooled(rows: Tensor, packing: Packing, reading: Reading) -> Tensor:
    """A vector for each text: [rows, hidden] -> [texts, hidden]."""
    lengths = torch.from_numpy(packing.lengths).to(rows.device)
    held = rows[: int(packing.lengths.sum())]
    return torch.segment_reduce(held, "mean" if reading is Reading.MEAN else "max", lengths=lengths)


class PaddedNetwork(TextNetwork):
    """A network of transformers; texts are padded to the longest of their batch, and masked."""

    pads = True

    def __init__(self, module: torch.nn.Module, reading: Reading, device: str) -> None:
        self._module = module
        self._reading = reading
        self._device = torch_device(device)
        config: Any = module.config
        self.longest = getattr(config, "max_position_embeddings", None)
        self._padding = getattr(config, "pad_token_id", None) or 0
        takes = inspect.signature(module.forward).parameters
        self._kinds = "token_type_ids" in takes and getattr(config, "type_vocab_size", 0) > 1

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Tokens]) -> list[Floats]:
        """Runs the batch as one padded tensor."""
        lengths = [len(text.ids) for text in batch]
        ids = np.full((len(batch), max(lengths)), self._padding, np.int64)
        kinds, held = np.zeros_like(ids), np.zeros_like(ids)
        for row, (text, length) in enumerate(zip(batch, lengths, strict=True)):
            ids[row, :length], held[row, :length] = text.ids, 1
            if text.kinds is not None:
                kinds[row, :length] = text.kinds
        given = {
            "input_ids": ids,
            "attention_mask": held,
            **({"token_type_ids": kinds} if self._kinds else {}),
        }
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in given.items()}
        found = self._read(self._module(**tensors, return_dict=True), tensors["attention_mask"])
        if self._reading.by_token:
            return [each[:length] for each, length in zip(found, lengths, strict=True)]
        return list(found)

    def _read(self, output: Any, held: Tensor) -> Floats:
        if self._reading in (Reading.CLASSES, Reading.TAGS):
            read = output.logits
        elif self._reading is Reading.ANSWER:
            read = torch.stack([output.start_logits, output.end_logits], -1)
        else:
            hidden = output.last_hidden_state.float()
            mask = held.unsqueeze(-1)  # [texts, longest, 1]
            if self._reading is Reading.MEAN:
                read = (hidden * mask).sum(1) / mask.sum(1)
            elif self._reading is Reading.MAX:
                read = hidden.masked_fill(mask == 0, float("-inf")).amax(1)
            else:
                read = hidden[:, 0]
        found: Floats = read.float().cpu().numpy()
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(parameter.nbytes for parameter in self._module.parameters())
