"""How sure an encoder-decoder network is of what it wrote: one pass over the finished text.

    log p(t_i | t_1 .. t_(i-1), source),   the network's own softmax over its whole vocabulary

Gathering this while the text is written would keep a vocabulary of scores for every step and every beam;
a pass over the finished text reads all its tokens at once and keeps a few rows of scores at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOST_SCORES = 1 << 25  # numbers kept at once, 128 MB in single precision


def token_log_probabilities(
    model: Any, tokens: Tensor, encoded: Tensor, attention_mask: Tensor | None = None
) -> Tensor:
    """The log probability of each token but the first.

    Args:
        model: a transformers encoder-decoder model with a head over its vocabulary.
        tokens: [n, n_tokens] what the decoder was given and what it wrote, padded at the end.
        encoded: [n, n_source, width] what the encoder made of the sources.
        attention_mask: [n, n_source] 1 where the source is, 0 where it is padded; None if it is whole.

    Returns:
        [n, n_tokens - 1] single precision, on the CPU.
    """
    n, length = tokens.shape
    rows = max(1, MOST_SCORES // (length * model.config.vocab_size))
    scores = []
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        logits = model(
            encoder_outputs=(encoded[part],),
            attention_mask=None if attention_mask is None else attention_mask[part],
            decoder_input_ids=tokens[part, :-1],
            use_cache=False,
        ).logits.float()  # [rows, n_tokens - 1, vocabulary]
        chosen = logits.gather(-1, tokens[part, 1:, None]).squeeze(-1)  # [rows, n_tokens - 1]
        scores.append((chosen - torch.logsumexp(logits, -1)).cpu())
    return torch.cat(scores)


def certainty(log_probabilities: Sequence[float]) -> float:
    """The geometric mean of tokens' probabilities, from 0 to 1; 0 without tokens."""
    if not log_probabilities:
        return 0.0
    return math.exp(min(0.0, math.fsum(log_probabilities) / len(log_probabilities)))
