"""A text network as named tensors, as clients of the Open Inference Protocol call it.

`input_ids`, `attention_mask` and, where the network has kinds of token, `token_type_ids`, all int64
[texts, tokens], give `logits`, `start_logits` and `end_logits`, or `embedding`, as it is pooled. Tokens
that are masked are left out, so that padding costs a packed network nothing; what is given for them is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from meshwork.errors import InvalidArgument
from meshwork.serving.engines.engine import Array, Arrays, TensorSpec, Verdict, check_inputs
from services.nlp.networks.reading import Floats, Reading, TextNetwork
from services.nlp.tokens import Tokens


class NamedTensors:
    """An engine around a text network."""

    def __init__(self, network: TextNetwork, reading: Reading) -> None:
        self._network = network
        self._reading = reading
        self.name = network.engine.name if network.engine else "torch"
        self.verdict: Verdict | None = network.engine.verdict if network.engine else None
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if network.kinds > 1 else [])]
        self.inputs = tuple(TensorSpec(name, "int64", (None, None)) for name in names)
        open_sizes: tuple[int | None, ...] = (None, None, None) if reading is Reading.TAGS else (None, None)
        self.outputs = tuple(TensorSpec(name, "float32", open_sizes) for name in self._output_names())

    def _output_names(self) -> tuple[str, ...]:
        if self._reading is Reading.ANSWER:
            return ("start_logits", "end_logits")
        return ("logits",) if self._reading in (Reading.CLASSES, Reading.TAGS) else ("embedding",)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Runs one batch.

        Raises:
            InvalidArgument: an input is missing, of another dtype or shape, or holds what the network
                does not know; names it.
        """
        check_inputs(self.inputs, inputs)
        held = inputs["attention_mask"] != 0
        self._check(inputs, held)
        kinds = inputs.get("token_type_ids")
        found = self._network(
            [
                Tokens(ids[row], None if kinds is None else kinds[index][row], False)
                for index, (ids, row) in enumerate(zip(inputs["input_ids"], held, strict=True))
            ]
        )
        if not self._reading.by_token:
            return {self.outputs[0].name: np.stack(found)}
        spread = _spread(found, held)
        if self._reading is Reading.TAGS:
            return {"logits": spread}
        return {spec.name: np.ascontiguousarray(spread[..., end]) for end, spec in enumerate(self.outputs)}

    def _check(self, inputs: Arrays, held: NDArray[np.bool_]) -> None:
        for name, array in inputs.items():
            if array.shape != held.shape:
                raise InvalidArgument(f"should have the shape of attention_mask, {held.shape}", field=name)
        lengths = held.sum(1) if held.size else np.zeros(1)
        longest = self._network.longest
        if lengths.min() < 1 or (longest and lengths.max() > longest):
            most = f" and at most {longest}" if longest else ""
            raise InvalidArgument(f"should hold a token a text{most}", field="attention_mask")
        bounds = {"input_ids": self._network.vocabulary, "token_type_ids": self._network.kinds}
        for name, bound in bounds.items():
            if name in inputs and not ((inputs[name] >= 0) & (inputs[name] < bound)).all():
                raise InvalidArgument(f"should be from 0 to {bound - 1}", field=name)

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return self._network.nbytes

    def close(self) -> None:
        """Does nothing: the network is its task's."""


def _spread(found: list[Floats], held: NDArray[np.bool_]) -> Floats:
    """Numbers of tokens at their places: [texts, tokens, n]."""
    spread = np.zeros((*held.shape, found[0].shape[1]), np.float32)
    spread[held] = np.concatenate(found)
    return spread
