"""A native library's process answers from forks and outlives what happens to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from services.speech.tasks.zygote import Crashed, Zygote

MODULE = "tests.unit.services.speech.odd_library"


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    made = Zygote(MODULE, "argument")
    yield made
    made.close()


def test_every_answer_comes_from_the_same_pristine_state(zygote):
    answers = [zygote.ask({"do": "answer"}, b"abc", timeout_s=60) for _ in range(3)]
    assert {head["answered"] for head, _ in answers} == {1}
    assert {body for _, body in answers} == {b"cba"}
    assert len({head["pid"] for head, _ in answers}) == 3
    assert answers[0][0]["argument"] == "argument"


def test_large_bodies_pass_and_threads_may_ask_at_once(zygote):
    bodies = [bytes([each]) * 3_000_000 for each in range(6)]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda body: zygote.ask({"do": "answer"}, body, timeout_s=60), bodies))
    assert [body for _, body in answers] == bodies


@pytest.mark.parametrize("accident", ["abort", "fail", "spin"])
def test_an_accident_takes_one_answer_with_it(zygote, accident, capfd):
    with pytest.raises(Crashed):
        zygote.ask({"do": accident}, timeout_s=60)
    before = zygote.ask({"do": "answer"}, timeout_s=60)[0]["zygote"]
    assert zygote.ask({"do": "answer"}, timeout_s=60)[0]["zygote"] == before


def test_an_answer_that_does_not_come_is_given_up(zygote):
    zygote.ask({"do": "answer"}, timeout_s=60)
    with pytest.raises(Crashed):
        zygote.ask({"do": "hang"}, timeout_s=0.2)
    assert zygote.ask({"do": "answer"}, timeout_s=60)


def test_a_killed_process_is_started_again(zygote):
    first = zygote.ask({"do": "answer"}, timeout_s=60)[0]["zygote"]
    os.kill(first, 9)
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=30)
    assert zygote.ask({"do": "answer"}, timeout_s=60)[0]["zygote"] != first


def test_close_ends_the_process(zygote):
    pid = zygote.ask({"do": "answer"}, timeout_s=60)[0]["zygote"]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(zygote.ask, {"do": "hang"}, timeout_s=60)
        zygote.close()
        with pytest.raises(Crashed):
            waiting.result(30)
    assert not psutil.pid_exists(pid)
    with pytest.raises(Crashed, match="closed"):
        zygote.ask({"do": "answer"}, timeout_s=60)


def test_a_library_that_cannot_load_says_so(capfd):
    broken = Zygote("services.speech.tasks.no_such_module")
    with pytest.raises(Crashed, match="could not load"):
        broken.ask({}, timeout_s=60)
    broken.close()
