"""How the next token is chosen.

In the order of `transformers`: the repetition penalty, then the temperature, then the `top_k` likeliest,
then the likeliest that together reach `top_p`; of what is left the token is drawn by its probability.
The draw is the inverse of the cumulative probability at one random number, and the random numbers are
the request's own (Philox, by seed), one a token: the same seed gives the same text, whoever shares
the batch.
"""

from __future__ import annotations

import secrets

import numpy as np
import torch
from torch import Tensor

from services.nlp.tasks.generate import Sampling

_LIKELIEST = 1024  # tokens that are sorted first; hardly ever does top_p need more


class Sampler:
    """Chooses the tokens of one sequence.

    Args:
        sampling: how.
        prompt: the prompt's tokens, which the repetition penalty counts as said.
    """

    def __init__(self, sampling: Sampling, prompt: list[int]) -> None:
        self._sampling = sampling
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed % 2**64
        self._random = np.random.Generator(np.random.Philox(key=seed))
        self._said = set(prompt) if sampling.repetition_penalty != 1 else None

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is what it chooses, whatever was said."""
        return self._sampling.temperature == 0 and self._said is None

    def choose(self, logits: Tensor) -> int:
        """The next token, by float32 [vocabulary]."""
        if self._said is not None:
            logits = self._penalized(logits)
        if self._sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            token = self._drawn(logits / self._sampling.temperature)
        if self._said is not None:
            self._said.add(token)
        return token

    def _penalized(self, logits: Tensor) -> Tensor:
        assert self._said is not None
        said = torch.tensor(sorted(self._said), device=logits.device)
        values = logits[said]
        penalty = self._sampling.repetition_penalty
        return logits.index_copy(0, said, torch.where(values < 0, values * penalty, values / penalty))

    def _drawn(self, logits: Tensor) -> int:
        kept, ids = self._kept(logits.double())
        cumulative = kept.exp().cumsum(0)
        place = torch.searchsorted(cumulative, self._random.random() * float(cumulative[-1]), right=True)
        place = place.clamp(max=len(cumulative) - 1)
        return int(place) if ids is None else int(ids[place])

    def _kept(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of the tokens that may be drawn, and which these are; None for all."""
        top_k, top_p = self._sampling.top_k, self._sampling.top_p
        if top_k and top_k < len(logits):
            logits, ids = logits.topk(top_k)
            logs = logits.log_softmax(0)
            return (logs, ids) if top_p >= 1 else _nucleus(logs, ids, top_p)
        logs = logits.log_softmax(0)
        if top_p >= 1:
            return logs, None
        likeliest, ids = logs.topk(min(_LIKELIEST, len(logs)))
        if likeliest.exp().sum() < top_p:
            likeliest, ids = logs.sort(descending=True)
        return _nucleus(likeliest, ids, top_p)


def _nucleus(logs: Tensor, ids: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest of the sorted `logs` whose probabilities reach `top_p`."""
    before = logs.exp().cumsum(0) - logs.exp()
    count = max(1, int((before < top_p).sum()))
    return logs[:count], ids[:count]
