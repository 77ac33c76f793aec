"""What is asked, and which answers are right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.places import DATA

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Requests:
    """The inputs of a workload, and for each the reference answer."""

    workload: str
    inputs: tuple[Any, ...]  # str, float32 [64], or the bytes of a JPEG file
    reference: Array  # text: [n, 2] probabilities; vector: [n, 8]; image: [n, 1000] probabilities

    @classmethod
    def load(cls, workload: str) -> Requests:
        """Reads them from `.bench/data`.

        Raises:
            FileNotFoundError: `python -m benchmarks.peers data` was not run.
        """
        inputs: tuple[Any, ...]
        if workload == "text":
            inputs = tuple(json.loads((DATA / "texts.json").read_text(encoding="utf-8")))
        elif workload == "vector":
            inputs = tuple(np.load(DATA / "vectors.npy"))
        else:
            inputs = tuple(path.read_bytes() for path in sorted(DATA.glob("image*.jpg")))
        return cls(workload, inputs, np.load(DATA / "reference.npz")[workload])

    def error(self, index: int, answer: Array) -> float:
        """How far the answer to an input is from the reference: the largest absolute difference.

        An image's answer is class numbers, then their probabilities; each is held to what the
        reference says of that class, and the classes to be the likeliest within that difference.
        """
        reference = self.reference[index]
        if self.workload != "image":
            return float(np.abs(answer - reference).max()) if answer.shape == reference.shape else np.inf
        classes, scores = answer.reshape(2, -1)
        expected = reference[classes.astype(np.int64)]
        missed = np.sort(reference)[-len(classes)] - expected.min()
        return float(max(np.abs(scores - expected).max(), missed))
