"""Padded networks: whatever text network transformers' Auto classes load (DeBERTa, ELECTRA, ...)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meshwork.serving.card import ModelDirectory
from meshwork.serving.devices import torch_device
from meshwork.serving.pretrained import load_pretrained
from services.nlp.networks.packed_linear import can_pack, pack_linears, weight_bytes
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tokens import Tokens

_SAMPLE = tuple(Tokens(np.arange(1, length), None, False) for length in (6, 9))  # of any vocabulary


class PaddedNetwork(TextNetwork):
    """A network of transformers; texts are padded to the longest of their batch, and masked."""

    pads = True

    def __init__(self, module: torch.nn.Module, reading: Reading, device: str) -> None:
        self.module = module
        self._reading = reading
        self._device = torch_device(device)
        config: Any = module.config
        self.longest = _longest(module)
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
        found = self._read(self.module(**tensors, return_dict=True), tensors["attention_mask"])
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
        return weight_bytes(self.module)


def _longest(module: torch.nn.Module) -> int | None:
    network: Any = module
    longest = getattr(network.config, "max_position_embeddings", None) or 0
    padding = getattr(getattr(network.base_model, "embeddings", None), "padding_idx", None)
    if padding is not None:  # as RoBERTa does it: positions begin behind the padding token's
        longest -= padding + 1
    return longest if longest > 0 else None


def load_padded(directory: ModelDirectory, device: str, reading: Reading) -> PaddedNetwork:
    """The network of a directory, its linear layers packed if that changes none of its answers.

    Raises:
        CardError: a file is missing or does not fit.
    """

    def loaded() -> PaddedNetwork:
        return PaddedNetwork(load_pretrained(reading.auto_class, directory, device), reading, device)

    made = loaded()
    if not can_pack(torch_device(device), getattr(torch, directory.card.precision)):
        return made
    wanted = made(_SAMPLE)
    near = 1e-4 if directory.card.precision == "float32" else 0.1
    try:
        pack_linears(made.module)
        same = all(np.allclose(a, b, near, near) for a, b in zip(made(_SAMPLE), wanted, strict=True))
    except (AttributeError, TypeError, RuntimeError):  # it reads its layers' weights itself
        same = False
    return made if same else loaded()
