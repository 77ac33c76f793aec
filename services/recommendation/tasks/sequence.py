"""The task `sequence`: a SASRec over what somebody took so far.

* Somebody of whom the model knows nothing (no history, or only items it never saw) gets what is popular.
* Items that it never saw are passed over in a history; the rest of it counts.
* Likeness is the cosine of item embeddings. An item that it never saw stands where the items taken
  shortly before it stand: at their mean, weighted by how often.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from meshwork.errors import NotFound
from meshwork.serving.card import CardError, ModelDirectory
from services.recommendation.networks.sasrec import SASRec, SASRecConfig
from services.recommendation.tasks.catalogue import ITEMS_FILE, Catalogue, Mask, Scores
from services.recommendation.tasks.recommend import Alike, Next, Query, Recommendations, Recommender

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Asked:
    """A query in numbers."""

    history: list[int]  # Next: latest last, at most the network's length; empty for popularity
    anchors: list[tuple[int, float]]  # Alike: items and their weights; empty for Next
    allowed: Mask
    count: int


class SequenceRecommender(Recommender[Asked, Scores]):
    """A SASRec with its catalogue."""

    def __init__(self, network: SASRec, catalogue: Catalogue, device: str) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self._catalogue = catalogue
        self._device = device
        self._length = network.config.length
        self._directions = F.normalize(self._network.item.weight[: len(catalogue)], dim=1)  # (items, D)

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads `config.json`, `items.json` and `model.safetensors`."""
        path = directory.file(CONFIG_FILE)
        try:
            config = SASRecConfig(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise CardError(f"{path}: {error}") from error
        catalogue = Catalogue.read(directory.file(ITEMS_FILE))
        if len(catalogue) != config.items:
            raise CardError(f"{path}: {config.items} items, but {ITEMS_FILE} has {len(catalogue)}")
        weights = directory.file(WEIGHTS_FILE)
        # Not on the meta device: it saves the filling of tables and costs the import of torch's compiler.
        network = SASRec(config)
        try:
            network.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError) as error:
            raise CardError(f"{weights}: does not fit {CONFIG_FILE}: {error}") from error
        return cls(network, catalogue, device)

    def warm_up(self) -> None:
        """Runs a full history and a likeness through."""
        everything = np.ones(len(self._catalogue), np.bool_)
        history = [number % len(self._catalogue) for number in range(self._length)]
        self.forward([Asked(history, [], everything, 10), Asked([], [(0, 1.0)], everything, 10)])

    def knows(self, item: str) -> bool:
        """Whether the item is in `items.json`."""
        return item in self._catalogue

    def preprocess(self, request: Query) -> Asked:
        """Turns ids into numbers and the wish into a mask."""
        if isinstance(request, Next):
            # Training never saw an item twice in a history: the latest time counts.
            known = list(dict.fromkeys(reversed(self._catalogue.numbers(request.history))))[::-1]
            seen = () if request.include_seen else request.history
            allowed = self._catalogue.allowed(request.wish, seen)
            return Asked(known[-self._length :], [], allowed, request.wish.count)
        allowed = self._catalogue.allowed(request.wish, [request.item])
        return Asked([], self._anchors(request), allowed, request.wish.count)

    def _anchors(self, request: Alike) -> list[tuple[int, float]]:
        number = self._catalogue.number(request.item)
        if number is not None:
            return [(number, 1.0)]
        weights = [(self._catalogue.number(item), weight) for item, weight in request.neighbours.items()]
        anchors = [(number, weight) for number, weight in weights if number is not None and weight > 0]
        if not anchors:
            raise NotFound(
                f"item: the model does not know {request.item!r}, and no user with known items before it "
                "took it; ask for an item that Recommend returns, or record events of it first",
                kind="item",
                name=request.item,
            )
        return anchors

    def cost(self, prepared: Asked) -> float:
        """Items of the history, of which the network reads each."""
        return max(1, len(prepared.history))

    @torch.inference_mode()
    def forward(self, batch: Sequence[Asked]) -> Sequence[Scores]:
        """(items,) scores for each query: probabilities for Next, cosines for Alike."""
        answers: list[Scores] = [self._catalogue.popularity] * len(batch)
        reading = [place for place, asked in enumerate(batch) if asked.history]
        if reading:
            for place, row in zip(
                reading, self._read([batch[place].history for place in reading]), strict=True
            ):
                answers[place] = row
        comparing = [place for place, asked in enumerate(batch) if asked.anchors]
        if comparing:
            rows = self._compare([batch[place].anchors for place in comparing])
            for place, row in zip(comparing, rows, strict=True):
                answers[place] = row
        return answers

    def _read(self, histories: list[list[int]]) -> Scores:
        longest = max(map(len, histories))
        padding = self._network.padding
        items = torch.tensor(
            [history + [padding] * (longest - len(history)) for history in histories], device=self._device
        )  # (B, T)
        last = torch.tensor([len(history) - 1 for history in histories], device=self._device)  # (B,)
        states = self._network(items)[torch.arange(len(histories), device=self._device), last]  # (B, D)
        probabilities: Scores = self._network.scores(states).softmax(1).cpu().numpy()  # (B, items)
        return probabilities

    def _compare(self, anchors: list[list[tuple[int, float]]]) -> Scores:
        means = torch.stack(
            [
                torch.tensor([weight for _, weight in each], dtype=torch.float32, device=self._device)
                @ self._directions[[number for number, _ in each]]
                for each in anchors
            ]
        )  # (B, D)
        cosines: Scores = (F.normalize(means, dim=1) @ self._directions.T).clamp(-1, 1).cpu().numpy()
        return cosines

    def postprocess(self, prepared: Asked, raw: Scores) -> Recommendations:
        """The best items of those allowed."""
        items = self._catalogue.best(raw, prepared.allowed, prepared.count)
        return Recommendations(items=items, history_size=len(prepared.history))
