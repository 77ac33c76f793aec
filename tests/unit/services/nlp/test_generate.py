from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from meshwork.errors import DeadlineExceeded, InvalidArgument
from meshwork.model_config import ModelConfig
from meshwork.nlp.v1 import nlp_pb2 as pb
from meshwork.nlp.v1.nlp_client import AsyncNlpClient
from meshwork.router.v1 import router_pb2
from meshwork.rpc import add_servicer
from meshwork.server import ServiceContext
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from services.nlp.__main__ import SPEC
from services.nlp.generation.generator import Token
from services.nlp.service import NlpService
from services.nlp.tasks.causal_lm import CausalLM
from services.nlp.tasks.generate import Order, Sampling, TextGenerator
from tests.unit.contexts import FakeContext
from tests.unit.services.nlp.tiny_causal_lms import CONTEXT, network, reference, save, tokenizer


@pytest.fixture(scope="module")
async def table(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelTable]:
    folder = tmp_path_factory.mktemp("models")
    table = ModelTable("nlp", "nlp-1", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures)
    await table.add(ModelConfig(source=str(save(folder / "plain", "gpt2"))))
    await table.add(ModelConfig(source=str(save(folder / "chatty", "llama", chat=True))))
    await table.add(ModelConfig(source=str(folder / "plain"), name="small", parameters={"kv_memory_mb": 1}))
    yield table
    await table.close()


@pytest.fixture(scope="module")
async def address(table: ModelTable) -> AsyncIterator[str]:
    stateless: Any = None
    server = grpc.aio.server()
    add_servicer(server, SPEC.full_name, NlpService(ServiceContext(table, stateless, stateless)))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture(scope="module")
async def nlp(address: str) -> AsyncIterator[AsyncNlpClient]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield AsyncNlpClient(channel, 30.0)


async def model(table: ModelTable, name: str) -> Any:
    return (await table.acquire(TextGenerator, "Generate", name, FakeContext())).task


async def text_of(pieces: AsyncIterator[pb.GenerateResponse]) -> tuple[str, pb.GenerateResponse]:
    found = [piece async for piece in pieces]
    assert all(not piece.finish_reason and not piece.HasField("served_by") for piece in found[:-1])
    assert all(piece.text for piece in found[:-1])
    return "".join(piece.text for piece in found), found[-1]


def expected(layout: str, prompt: str, most: int, **options: Any) -> str:
    spoken = tokenizer()
    text: str = spoken.decode(
        reference(network(layout), spoken(prompt).input_ids, most, **options), skip_special_tokens=True
    )
    return text


async def test_a_plain_directory_is_served_and_writes_what_transformers_writes(nlp: AsyncNlpClient) -> None:
    prompt = "the cat in the 2"
    text, last = await text_of(nlp.generate(prompt=prompt, max_output_tokens=30))
    assert text == expected("gpt2", prompt, 30)
    assert last.finish_reason == pb.FINISH_REASON_LENGTH
    assert (last.prompt_token_count, last.output_token_count) == (len(tokenizer()(prompt).input_ids), 30)
    assert (last.served_by.model, last.served_by.version) == ("plain", "1")
    assert last.served_by.compute_time.ToNanoseconds() > last.time_to_first_piece.ToNanoseconds() / 2 > 0


async def test_callers_who_share_steps_get_their_own_texts(nlp: AsyncNlpClient) -> None:
    prompts = [f"{'the ' * n}{n}" for n in range(0, 40, 3)]
    answers = await asyncio.gather(
        *(text_of(nlp.generate(prompt=prompt, max_output_tokens=20)) for prompt in prompts)
    )
    assert [text for text, _ in answers] == [expected("gpt2", prompt, 20) for prompt in prompts]
    assert max(last.served_by.batch_size for _, last in answers) > 1


async def test_a_chat_is_put_into_words_by_the_models_own_template(nlp: AsyncNlpClient) -> None:
    messages = [pb.ChatMessage(role="system", content="be brief"), pb.ChatMessage(role="user", content="hi")]
    text, last = await text_of(nlp.generate(model="chatty", messages=messages, max_output_tokens=12))
    assert text == expected("llama", "system: be brief\nuser: hi\nassistant:", 12)
    assert last.served_by.model == "chatty"


async def test_a_stop_text_ends_the_answer_before_it(nlp: AsyncNlpClient) -> None:
    whole = expected("gpt2", "the cat", 30)
    stop = whole[8:10]
    text, last = await text_of(nlp.generate(prompt="the cat", stop=stop, max_output_tokens=30))
    assert text == whole[: whole.index(stop)]
    assert last.finish_reason == pb.FINISH_REASON_STOP
    assert last.output_token_count < 30


async def test_a_seed_gives_its_text_again(nlp: AsyncNlpClient) -> None:
    wild: dict[str, Any] = {"prompt": "the", "temperature": 1.2, "top_p": 0.9, "max_output_tokens": 20}
    texts = [(await text_of(nlp.generate(**wild, seed=seed)))[0] for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]


async def test_a_full_context_ends_the_text(nlp: AsyncNlpClient) -> None:
    _, last = await text_of(nlp.generate(prompt="a" * (CONTEXT - 3), max_output_tokens=50))
    assert last.finish_reason == pb.FINISH_REASON_LENGTH
    assert last.output_token_count == 3


async def test_one_who_leaves_costs_one_step_more_at_most(table: ModelTable) -> None:
    task: CausalLM = await model(table, "plain")
    order = Order(prompt="the", max_output_tokens=250, sampling=Sampling())
    steps = 0
    async with aclosing(table.stream(TextGenerator, "Generate", "plain", order, FakeContext())) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            steps = task._generator.steps
            if steps > 5:
                break
    while len(task._generator):
        await asyncio.sleep(0.001)
    assert task._generator.steps <= steps + 1
    assert task._generator.room_for(task._generator.memory_tokens)
    assert not task._texts


async def test_a_client_that_hangs_up_ends_the_work(nlp: AsyncNlpClient, table: ModelTable) -> None:
    task: CausalLM = await model(table, "plain")
    before = task._generator.steps
    for _ in range(8):
        pieces = nlp.generate(prompt="the", max_output_tokens=250)
        await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        while len(task._generator):
            await asyncio.sleep(0.001)
    assert task._generator.steps - before < 8 * 250 / 2


async def test_ctrl_c_at_the_command_line_ends_the_work(
    address: str, table: ModelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: CausalLM = await model(table, "plain")
    generator = task._generator
    step, before = generator.step, generator.steps

    def slow_step() -> list[Token]:
        time.sleep(0.02)
        return step()

    monkeypatch.setattr(generator, "step", slow_step)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshwork", "call", "nlp", "generate", "the"),
        *("--model", "plain", "--max-output-tokens", "250", "--address", address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Where the tests run in the background, a shell has made us ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert await process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"")
    while len(generator):
        await asyncio.sleep(0.001)
    assert generator.steps - before < 200


async def test_a_deadline_ends_the_text_and_its_work(nlp: AsyncNlpClient, table: ModelTable) -> None:
    task: CausalLM = await model(table, "plain")
    with pytest.raises(DeadlineExceeded):
        while True:  # one answer may be done in time, on a fast machine
            await text_of(nlp.generate(prompt="the", max_output_tokens=250, timeout_s=0.03))
    while len(task._generator):
        await asyncio.sleep(0.001)


async def test_texts_that_do_not_fit_together_wait_for_each_other(nlp: AsyncNlpClient) -> None:
    # 1 MB holds 1024 tokens of keys and values: four of these at once.
    answers = await asyncio.gather(
        *(text_of(nlp.generate(model="small", prompt="the", max_output_tokens=250)) for _ in range(6))
    )
    assert len({text for text, _ in answers}) == 1
    assert max(last.served_by.batch_size for _, last in answers) == 4


WILD: dict[str, Any] = {"prompt": "x", "temperature": 1.0}
USER = pb.ChatMessage(role="user", content="hi")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "messages": [USER]}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x" * CONTEXT}, "prompt"),
        ({"messages": [USER]}, "messages"),  # no chat template
        ({"model": "chatty", "messages": [pb.ChatMessage(content="hi")]}, "messages[0].role"),
        ({"model": "chatty", "messages": [pb.ChatMessage(role="nobody", content="x")]}, "messages"),
        ({"model": "chatty", "messages": [pb.ChatMessage(role="user", content="x" * 300)]}, "messages"),
        ({"prompt": "x", "max_output_tokens": -1}, "max_output_tokens"),
        ({"prompt": "x", "stop": [""]}, "stop[0]"),
        ({"prompt": "x", "stop": ["a"] * 17}, "stop"),
        ({"prompt": "x", "stop": ["a", "b" * 257]}, "stop[1]"),
        ({"prompt": "x", "temperature": -1.0}, "temperature"),
        ({"prompt": "x", "temperature": float("nan")}, "temperature"),
        ({"prompt": "x", "temperature": 1e-30}, "temperature"),
        ({**WILD, "top_p": 1.5}, "top_p"),
        ({**WILD, "top_k": -2}, "top_k"),
        ({"prompt": "x", "top_k": 3}, "top_k"),
        ({"prompt": "x", "top_p": 0.5}, "top_p"),
        ({"prompt": "x", "seed": 0}, "seed"),
        ({"prompt": "x", "repetition_penalty": -1.0}, "repetition_penalty"),
    ],
)
async def test_a_wrong_field_is_named(nlp: AsyncNlpClient, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await text_of(nlp.generate(**fields))
    assert caught.value.field == field
    assert caught.value.remedy


async def test_a_prompt_that_is_too_long_is_told_the_limit(nlp: AsyncNlpClient) -> None:
    with pytest.raises(InvalidArgument, match=f"300 tokens long; this model takes at most {CONTEXT - 1}"):
        await text_of(nlp.generate(prompt="x" * 300))


async def test_a_token_that_only_the_tokenizer_knows_fails_its_own_caller(tmp_path: Path) -> None:
    table = ModelTable("nlp", "nlp-1", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures)
    small = save(tmp_path / "small", vocab_size=280, bos_token_id=None, eos_token_id=None)
    await table.add(ModelConfig(source=str(small)))
    task: CausalLM = await model(table, "small")
    with pytest.raises(InvalidArgument) as caught:
        task.preprocess(Order(prompt="a<|290|>", max_output_tokens=1, sampling=Sampling()))
    assert caught.value.field == "prompt"
    await table.close()


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [({"kv_memory_mb": "much"}, "kv_memory_mb"), ({"speed": 3}, "speed"), ({"max_sequences": 0}, "from 1")],
)
async def test_a_wrong_parameter_is_named(tmp_path: Path, parameters: Any, cause: str) -> None:
    table = ModelTable("nlp", "nlp-1", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures)
    await table.add(ModelConfig(source=str(save(tmp_path / "m")), parameters=parameters))
    (described,) = table.describe()
    assert described.state == router_pb2.MODEL_STATE_FAILED
    assert cause in described.error
    await table.close()


async def test_a_traced_calls_span_tells_what_was_asked_and_written_and_no_text(table: ModelTable) -> None:
    stateless: Any = None
    service = NlpService(ServiceContext(table, stateless, stateless))
    span = TracerProvider().get_tracer("test").start_span("call")
    request = pb.GenerateRequest(
        model="plain", prompt="secret", max_output_tokens=3, temperature=0.5, seed=7, stop=["hidden"]
    )
    with trace.use_span(span):
        pieces = [piece async for piece in service.Generate(request, FakeContext())]
    told = dict(span.attributes or {})
    last = pieces[-1]
    assert told.pop("gen_ai.response.time_to_first_chunk") > 0  # type: ignore[operator]
    assert told == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "meshwork",
        "gen_ai.request.model": "plain",
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.response.model": "plain",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": last.prompt_token_count,
        "gen_ai.usage.output_tokens": 3,
    }
