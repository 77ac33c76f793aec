from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from services.nlp.generation.decoder import Decoder, Rows, UnfitError
from services.nlp.generation.generator import End, Generator
from services.nlp.generation.pace import Pace
from services.nlp.networks.packed_linear import PackedLinear, can_pack
from services.nlp.tasks.generate import Sampling
from tests.unit.services.nlp.tiny_causal_lms import END, LAYOUTS, VOCABULARY, network, reference

GREEDY = Sampling()
WILD = Sampling(temperature=1.5, seed=7)


def prompt(length: int) -> list[int]:
    return random.Random(length).choices(range(256), k=length)


def generator(net: Any, *, tokens: int = 4000, sequences: int = 32) -> Generator:
    decoder = Decoder(net)
    return Generator(
        decoder,
        frozenset([END]),
        memory_bytes=tokens * decoder.shape.token_bytes,
        most_sequences=sequences,
        pace=Pace(clock=lambda: 0.0),  # 64 prompt tokens a step, however long that takes
    )


def write(
    writer: Generator,
    orders: dict[int, tuple[list[int], int, Sampling]],
    between: Callable[[int], None] = lambda _: None,
    *,
    gap: int = 2,
) -> dict[int, list[int]]:
    """What is written for each order, of which one joins every `gap` steps."""
    written: dict[int, list[int]] = {key: [] for key in orders}
    waiting = list(orders.items())
    step = 0
    while waiting or len(writer):
        if waiting and step % gap == 0:
            key, order = waiting.pop(0)
            writer.join(key, *order)
        for token in writer.step():
            written.setdefault(token.key, []).append(token.id)
        between(step)
        step += 1
    return written


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sequences_that_join_and_leave_are_written_as_transformers_writes_each_alone(layout: str) -> None:
    net = network(layout)
    lengths = (1, 130, 33, 64, 12)
    expected = {length: reference(net, prompt(length), 16) for length in lengths}
    writer = generator(net)
    assert write(writer, {length: (prompt(length), 16, GREEDY) for length in lengths}) == expected
    assert writer.room_for(4000)


def test_a_repetition_penalty_is_that_of_transformers() -> None:
    net = network("llama")
    expected = reference(net, prompt(9), 24, repetition_penalty=1.7)
    assert expected != reference(net, prompt(9), 24)
    order = (prompt(9), 24, Sampling(repetition_penalty=1.7))
    assert write(generator(net), {0: order}) == {0: expected}


def test_one_who_leaves_midway_changes_no_other_and_gives_its_memory_back() -> None:
    net = network("qwen3")
    expected = {length: reference(net, prompt(length), 16) for length in (5, 40)}
    writer = generator(net, tokens=500)
    writer.join(99, prompt(20), 220, WILD)
    writer.join(98, prompt(90), 20, WILD)  # leaves while its prompt is read
    assert writer.room_for(150)
    assert not writer.room_for(151)

    def between(step: int) -> None:
        if step == 0:
            writer.leave(98)
        if step == 3:
            writer.leave(99)
            writer.leave(99)

    written = write(writer, {length: (prompt(length), 16, GREEDY) for length in (5, 40)}, between)
    assert {length: written[length] for length in (5, 40)} == expected
    assert len(written[99]) == 4
    assert 98 not in written
    assert writer.room_for(500)
    assert not writer.room_for(501)


def test_a_seed_gives_the_same_text_whoever_else_writes() -> None:
    writer = generator(network("llama"))
    alone = write(writer, {1: (prompt(7), 30, WILD)})[1]
    others = {key: (prompt(key), 30, Sampling(temperature=0.8)) for key in (20, 30, 41)}
    together = write(writer, {**others, 1: (prompt(7), 30, WILD)}, gap=3)[1]
    assert together == alone
    assert write(writer, {1: (prompt(7), 30, Sampling(temperature=1.5, seed=8))})[1] != alone
    unseeded = [write(writer, {1: (prompt(7), 30, Sampling(temperature=1.5))})[1] for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_a_long_prompt_does_not_keep_others_from_writing() -> None:
    writer = generator(network("gpt2"))
    writer.join(0, prompt(3), 100, GREEDY)
    writer.step()
    writer.join(1, prompt(200), 1, GREEDY)
    steps = 0
    while len(writer) == 2:
        steps += 1
        keys = [token.key for token in writer.step()]
        assert 0 in keys
    assert steps == 4  # 64 tokens each


def test_a_short_prompt_overtakes_a_long_one() -> None:
    writer = generator(network("gpt2"))
    writer.join(0, prompt(200), 4, GREEDY)
    writer.join(1, prompt(20), 4, GREEDY)
    assert [token.key for token in writer.step()] == [1]


def test_a_step_reads_as_much_as_keeps_it_short() -> None:
    pace = Pace(longest_s=0.1)
    assert pace.budget(0) == 64
    pace.learn(4, 30, 9.0)  # tells nothing of reading
    assert pace.budget(0) == 64
    pace.learn(80, 20, 0.1)
    assert pace.budget(0) == 100
    assert pace.budget(30) == 70
    for _ in range(50):
        pace.learn(64, 0, 64.0)
    assert pace.budget(0) == 64
    for _ in range(99):
        pace.learn(64, 0, 1e-6)
    assert pace.budget(0) == 512


def test_the_number_of_sequences_is_bounded() -> None:
    writer = generator(network("gpt2"), sequences=2)
    for key in range(2):
        assert writer.room_for(10)
        writer.join(key, prompt(5), 5, GREEDY)
    assert not writer.room_for(10)


def test_an_end_is_told_with_its_cause() -> None:
    net = network("llama")
    expected = reference(net, prompt(5), 8)
    last = next(token for token in expected if token not in reference(net, prompt(9), 8))
    decoder = Decoder(net)
    writer = Generator(decoder, frozenset([last]), memory_bytes=1 << 20, most_sequences=2)
    for length in (5, 9):
        writer.join(length, prompt(length), 8, GREEDY)
    tokens = []
    while len(writer):
        tokens += writer.step()
    assert {token.key: token.end for token in tokens if token.end} == {5: End.MODEL, 9: End.LENGTH}
    assert [token.id for token in tokens if token.key == 5] == expected[: expected.index(last) + 1]


def test_bfloat16_writes_nearly_what_float32_knows() -> None:
    exact, rough = Decoder(network("llama")), Decoder(network("llama").to(torch.bfloat16))
    logits = [
        each.step([], [Rows(each.shape.memory(20), 0, prompt(20))], ends=[19])[0] for each in (exact, rough)
    ]
    assert torch.cosine_similarity(logits[0], logits[1], dim=0) > 0.99
    assert rough.memory_bytes < 0.6 * exact.memory_bytes


@pytest.mark.parametrize(
    ("family", "options", "cause"),
    [
        ("Gemma2", {"head_dim": 16}, "softcap"),
        ("Falcon", {}, "interface"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
    ],
)
def test_a_network_that_would_be_run_wrongly_is_refused(family: str, options: Any, cause: str) -> None:
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        **options,
    )
    with pytest.raises(UnfitError, match=cause):
        Decoder(getattr(transformers, f"{family}ForCausalLM")(config).eval())


@pytest.mark.parametrize("rows", [1, 3, 64, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layer_computes_what_a_plain_one_does(rows: int, dtype: torch.dtype) -> None:
    if not can_pack(torch.device("cpu"), dtype):
        pytest.skip("this processor has no such instructions")
    torch.manual_seed(rows)
    plain = torch.nn.Linear(48, 80).to(dtype)
    inputs = torch.randn(1, rows, 48, dtype=dtype)
    with torch.inference_mode():
        difference = PackedLinear(plain.weight, plain.bias)(inputs) - plain(inputs)
    assert difference.shape == (1, rows, 80)
    assert difference.abs().max() < (1e-5 if dtype is torch.float32 else 0.04)
