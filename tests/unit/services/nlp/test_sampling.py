from __future__ import annotations

from typing import Any

import pytest
import torch

from services.nlp.generation import sampling
from services.nlp.generation.sampling import Sampler
from services.nlp.tasks.generate import Sampling

DRAWS = 2000
LOGITS = torch.randn(50, generator=torch.Generator().manual_seed(3)) * 2


class Steps:
    """Numbers that step evenly through 0 to 1."""

    def __init__(self) -> None:
        self.drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return (self.drawn - 0.5) / DRAWS


def frequencies(asked: Sampling, said: list[int]) -> torch.Tensor:
    sampler: Any = Sampler(asked, said)
    sampler._random = Steps()
    counts = torch.zeros(len(LOGITS))
    for _ in range(DRAWS):
        if sampler._said is not None:
            sampler._said = set(said)  # each draw is a first one
        counts[sampler.choose(LOGITS)] += 1
    return counts / DRAWS


@pytest.mark.parametrize(
    "asked",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.6, top_k=7),
        Sampling(temperature=1.3, top_p=0.8),
        Sampling(temperature=1.3, top_p=0.0001),
        Sampling(temperature=2.0, top_k=20, top_p=0.7, repetition_penalty=1.4),
        Sampling(temperature=1.0, top_k=1000, repetition_penalty=0.5),
    ],
)
@pytest.mark.parametrize("sorted_first", [1024, 3])
def test_tokens_are_drawn_by_the_probabilities_of_transformers(
    asked: Sampling, sorted_first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    monkeypatch.setattr(sampling, "_LIKELIEST", sorted_first)
    said = [1, 4, 4, 30]
    steps: list[Any] = [
        RepetitionPenaltyLogitsProcessor(asked.repetition_penalty),
        TemperatureLogitsWarper(asked.temperature),
    ]
    if asked.top_k:
        steps.append(TopKLogitsWarper(asked.top_k))
    if asked.top_p < 1:
        steps.append(TopPLogitsWarper(asked.top_p))
    warped = LogitsProcessorList(steps)(torch.tensor([said]), LOGITS[None].clone())
    expected = warped.softmax(-1)[0]
    assert (frequencies(asked, said) - expected).abs().max() <= 1.5 / DRAWS


def test_without_a_temperature_the_likeliest_token_is_chosen() -> None:
    assert Sampler(Sampling(), []).choose(LOGITS) == int(LOGITS.argmax())


def test_logits_that_are_no_numbers_choose_a_token_all_the_same() -> None:
    broken = torch.full((50,), float("nan"))
    assert 0 <= Sampler(Sampling(temperature=1.0), []).choose(broken) < 50
    assert 0 <= Sampler(Sampling(temperature=1.0, top_p=0.5, top_k=3), []).choose(broken) < 50
