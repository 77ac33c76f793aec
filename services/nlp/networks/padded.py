"""Padded networks: whatever text network transformers' Auto classes load (DeBERTa, ELECTRA, ...).

They run on the engine that the model's card names. On torch and a CPU their linear layers are packed
(`packed_linear`), if that changes none of their answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from meshwork.devices import torch_device
from meshwork.serving.card import ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.engines.select import engine_for
from meshwork.serving.engines.torch_eager import TorchEngine
from meshwork.serving.pretrained import load_pretrained
from services.nlp.networks.packed_linear import can_pack, pack_linears, weight_bytes
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tokens import Tokens

_SAMPLE = tuple(Tokens(np.arange(1, length), None, False) for length in (6, 9))  # of any vocabulary


class PaddedNetwork(TextNetwork):
    """A network of transformers; texts are padded to the longest of their batch, and masked."""

    pads = True

    def __init__(self, module: Any, reading: Reading, directory: ModelDirectory, device: str) -> None:
        self._reading = reading
        config = module.config
        self._padding = getattr(config, "pad_token_id", None) or 0
        self.longest = _longest(module)
        self.vocabulary = int(module.get_input_embeddings().num_embeddings)
        takes_kinds = "token_type_ids" in inspect.signature(module.forward).parameters
        self.kinds = max(1, getattr(config, "type_vocab_size", 0)) if takes_kinds else 1
        example = self._padded(_SAMPLE)
        self.engine: Engine = engine_for(
            module,
            directory=directory,
            device=device,
            inputs=tuple(TensorSpec(name, "int64", (None, None)) for name in example),
            outputs=_outputs(reading, config),
            example=example,
        )

    def _padded(self, batch: Sequence[Tokens]) -> dict[str, NDArray[np.int64]]:
        """The batch as arrays [texts, longest]."""
        lengths = [len(text.ids) for text in batch]
        ids = np.full((len(batch), max(lengths)), self._padding, np.int64)
        kinds, held = np.zeros_like(ids), np.zeros_like(ids)
        for row, (text, length) in enumerate(zip(batch, lengths, strict=True)):
            ids[row, :length], held[row, :length] = text.ids, 1
            if text.kinds is not None:
                kinds[row, :length] = text.kinds
        given = {"input_ids": ids, "attention_mask": held}
        return given if self.kinds == 1 else {**given, "token_type_ids": kinds}

    def __call__(self, batch: Sequence[Tokens]) -> list[Floats]:
        """Runs the batch as one padded tensor."""
        given = self._padded(batch)
        found = self._read(self.engine.run(given), given["attention_mask"])
        if self._reading.by_token:
            return [each[: len(text.ids)] for each, text in zip(found, batch, strict=True)]
        return list(found)

    def _read(self, outputs: dict[str, Floats], held: NDArray[np.int64]) -> Floats:
        if self._reading is Reading.ANSWER:
            return np.stack([outputs["start_logits"], outputs["end_logits"]], -1)
        if self._reading in (Reading.CLASSES, Reading.TAGS):
            return outputs["logits"]
        hidden = outputs["last_hidden_state"]
        mask = held[..., None].astype(np.float32)  # [texts, longest, 1]
        if self._reading is Reading.MEAN:
            means: Floats = (hidden * mask).sum(1) / mask.sum(1)
            return means
        if self._reading is Reading.MAX:
            greatest: Floats = np.where(mask > 0, hidden, -np.inf).max(1)
            return greatest
        return hidden[:, 0]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        torch_runs = isinstance(self.engine, TorchEngine) and self.engine.network is not None
        return weight_bytes(self.engine.network) if torch_runs else self.engine.memory_bytes()  # type: ignore[attr-defined]


def _outputs(reading: Reading, config: Any) -> tuple[TensorSpec, ...]:
    match reading:
        case Reading.CLASSES:
            return (TensorSpec("logits", "float32", (None, config.num_labels)),)
        case Reading.TAGS:
            return (TensorSpec("logits", "float32", (None, None, config.num_labels)),)
        case Reading.ANSWER:
            return tuple(TensorSpec(f"{end}_logits", "float32", (None, None)) for end in ("start", "end"))
        case _:
            return (TensorSpec("last_hidden_state", "float32", (None, None, config.hidden_size)),)


def _longest(network: Any) -> int | None:
    longest = getattr(network.config, "max_position_embeddings", None) or 0
    padding = getattr(getattr(network.base_model, "embeddings", None), "padding_idx", None)
    if padding is not None:  # as RoBERTa does it: positions begin behind the padding token's
        longest -= padding + 1
    return longest if longest > 0 else None


def load_padded(directory: ModelDirectory, device: str, reading: Reading) -> PaddedNetwork:
    """The network of a directory.

    Raises:
        CardError: a file is missing or does not fit, or the engine cannot run it.
    """

    def loaded() -> PaddedNetwork:
        module = load_pretrained(reading.auto_class, directory, device, precision="float32")
        return PaddedNetwork(module, reading, directory, device)

    made = loaded()
    engine = made.engine
    if not isinstance(engine, TorchEngine) or engine.name != "torch":
        return made
    dtype = engine.network.dtype or torch.float32
    if not can_pack(torch_device(device), dtype):
        return made
    wanted = made(_SAMPLE)
    near = 1e-4 if dtype is torch.float32 else 0.1
    try:
        pack_linears(engine.network)
        same = all(np.allclose(a, b, near, near) for a, b in zip(made(_SAMPLE), wanted, strict=True))
    except (AttributeError, TypeError, RuntimeError):  # it reads its layers' weights itself
        same = False
    return made if same else loaded()
