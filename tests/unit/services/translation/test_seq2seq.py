"""The network: what a sentence becomes does not depend on its company."""

from __future__ import annotations

import pytest
import torch

from services.translation.networks.seq2seq import END, PAD, Seq2Seq, Seq2SeqConfig

CONFIG = Seq2SeqConfig(vocabulary=60, width=32, heads=4, layers=2, languages=("en", "fr"))
SENTENCES = ([2, 9, 11, 30], [2, 40], [2, 12, 13, 14, 15, 16, 17, 18, 19], [3, 59, 59, 8, 7, 21])


@pytest.fixture(name="network")
def _network() -> Seq2Seq:
    torch.manual_seed(3)
    return Seq2Seq(CONFIG).eval()


def decode(network: Seq2Seq, sentences: tuple[list[int], ...], limits: list[int]):
    longest = max(map(len, sentences))
    source = torch.tensor([row + [PAD] * (longest - len(row)) for row in sentences])
    return network.decode(source, torch.full((len(sentences),), CONFIG.tag("fr")), limits)


def test_a_batch_decodes_as_each_sentence_alone(network: Seq2Seq) -> None:
    limits = [7, 12, 3, 20]
    together = decode(network, SENTENCES, limits)
    for sentence, limit, (tokens, scores) in zip(SENTENCES, limits, together, strict=True):
        [(alone, alone_scores)] = decode(network, (sentence,), [limit])
        assert tokens == alone
        assert scores == pytest.approx(alone_scores, abs=1e-4)


def test_decoding_with_the_cache_agrees_with_the_forward_pass(network: Seq2Seq) -> None:
    source = torch.tensor([SENTENCES[2]])
    [(tokens, scores)] = network.decode(source, torch.tensor([CONFIG.tag("fr")]), [10])
    written = [*tokens, END] if len(scores) > len(tokens) else tokens
    with torch.inference_mode():
        logits = network(source, torch.tensor([[CONFIG.tag("fr"), *written[:-1]]]))[0]
    assert logits.argmax(dim=-1).tolist() == written
    expected = logits.log_softmax(dim=-1).max(dim=-1).values.tolist()
    assert scores == pytest.approx(expected, abs=1e-4)


def test_no_sentence_grows_past_its_limit(network: Seq2Seq) -> None:
    for (tokens, scores), limit in zip(decode(network, SENTENCES, [1, 2, 3, 4]), [1, 2, 3, 4], strict=True):
        assert len(tokens) <= len(scores) <= limit


def test_the_target_tag_decides_what_is_written(network: Seq2Seq) -> None:
    source = torch.tensor([SENTENCES[0], SENTENCES[0]])
    (_, english), (_, french) = network.decode(
        source, torch.tensor([CONFIG.tag("en"), CONFIG.tag("fr")]), [4, 4]
    )
    assert english != french
