"""Packed networks: BERT, RoBERTa (XLM-RoBERTa, CamemBERT) and DistilBERT with their heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from meshwork.devices import torch_device
from services.nlp.networks.encoder import Encoder, Weights
from services.nlp.networks.layouts import EncoderConfig, Step
from services.nlp.networks.packing import Packing, pack
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tokens import Tokens


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
        self.vocabulary = self._encoder.vocabulary
        self.kinds = self._encoder.kinds
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
