"""Fits a SASRec to histories: each position predicts the next item, by cross-entropy over all items.

The paper samples one negative an item; with a catalogue this small the exact softmax is cheap and
better (Klenitskiy and Vasilev, Turning Dross Into Gold Loss, RecSys 2023, https://arxiv.org/abs/2309.07602).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from services.recommendation.networks.sasrec import SASRec, SASRecConfig

BATCH = 64
EPOCHS = 26
PEAK_RATE = 2e-3
WARM_UP_STEPS = 100
UNKNOWN_RATE = 0.05  # of items left out of a history, as if the model did not know them


def fit(config: SASRecConfig, histories: Sequence[Sequence[int]], seed: int) -> SASRec:
    """A trained network; bit for bit the same for the same arguments, on one thread of one machine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = SASRec(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    steps = EPOCHS * math.ceil(len(histories) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / WARM_UP_STEPS, 0.5 + 0.5 * math.cos(math.pi * min(step, steps) / steps)
        ),
    )
    began = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for batch in _batches(histories, network.padding, rng):
            losses.append(_step(network, batch, optimizer))
            schedule.step()
        print(
            f"epoch {epoch:2}/{EPOCHS}  loss {np.mean(losses):.4f}  {time.monotonic() - began:5.0f} s",
            flush=True,
        )
    return network.eval()


def _step(network: SASRec, batch: Tensor, optimizer: torch.optim.Optimizer) -> float:
    states = network(batch[:, :-1])  # (B, T, D)
    target = batch[:, 1:]  # (B, T)
    real = target != network.padding  # (B, T)
    loss = F.cross_entropy(network.scores(states[real]), target[real])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _batches(histories: Sequence[Sequence[int]], padding: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """One epoch, in batches of histories of much the same length, in random order."""
    jitter = rng.random(len(histories)) * 4
    order = np.argsort([len(history) for history in histories] + jitter)
    starts = rng.permutation(np.arange(0, len(histories), BATCH))
    for start in starts:
        yield pad([_thinned(histories[i], rng) for i in order[start : start + BATCH]], padding)


def _thinned(history: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    items = np.asarray(history)
    kept = items[rng.random(len(items)) >= UNKNOWN_RATE]
    return kept if len(kept) > 1 else items


def pad(histories: Sequence[NDArray[np.int64]], padding: int) -> Tensor:
    """(B, longest) item numbers, padded on the right."""
    batch = torch.full((len(histories), max(map(len, histories))), padding)
    for row, history in enumerate(histories):
        batch[row, : len(history)] = torch.as_tensor(history)
    return batch
