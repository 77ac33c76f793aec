from __future__ import annotations

import socket

import grpc

from meshwork.supervisor.ports import free_port
from meshwork.supervisor.watchdog import PATIENCE, PROBES, STARTING, Silence, answers


def test_a_process_hangs_after_three_probes_in_a_row_without_an_answer() -> None:
    silence = Silence()
    said = [True, False, False, True, *[False] * PROBES]
    assert [silence.hung(7, answered=each, late=False, cpu_s=1.0) for each in said] == [
        *[False] * (len(said) - 1),
        True,
    ]


def test_one_that_never_answered_is_starting_and_another_process_begins_anew() -> None:
    silence = Silence()
    assert not any(silence.hung(7, answered=False, late=False, cpu_s=1.0) for _ in range(2 * PROBES))
    silence.hung(7, answered=True, late=False, cpu_s=1.0)
    assert not any(silence.hung(8, answered=False, late=False, cpu_s=1.0) for _ in range(2 * PROBES))


def test_one_that_never_answers_is_not_waited_for_forever() -> None:
    silence = Silence()
    said = [silence.hung(7, answered=False, late=False, cpu_s=1.0) for _ in range(STARTING)]
    assert said == [*[False] * (STARTING - 1), True]


def test_a_probe_that_was_held_up_itself_says_nothing() -> None:
    silence = Silence()
    silence.hung(7, answered=True, late=False, cpu_s=1.0)
    assert not any(silence.hung(7, answered=False, late=True, cpu_s=1.0) for _ in range(2 * PROBES))


async def test_any_answer_will_do_and_silence_is_none() -> None:
    server = grpc.aio.server()  # has no health service
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await answers(f"127.0.0.1:{port}")
    await server.stop(None)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connections are made, and none is taken
        assert not await answers("{}:{}".format(*mute.getsockname()))
    assert not await answers(f"127.0.0.1:{free_port()}")


def test_a_process_that_works_has_longer_than_one_that_is_stopped() -> None:
    silence = Silence()
    silence.hung(7, answered=True, late=False, cpu_s=1.0)
    said = [silence.hung(7, answered=False, late=False, cpu_s=2.0 + n) for n in range(PATIENCE * PROBES)]
    assert said == [*[False] * (PATIENCE * PROBES - 1), True]


def test_a_process_that_worked_and_was_stopped_then_hangs() -> None:
    silence = Silence()
    silence.hung(7, answered=True, late=False, cpu_s=1.0)
    assert [silence.hung(7, answered=False, late=False, cpu_s=1.5) for _ in range(PROBES)][-1]
