from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshwork import logs
from meshwork.cli.logs import _entries

SAYS = """
import logging
from meshwork import logs, spans
logs.start("nlp-1")
log = logging.getLogger("meshwork.server")
log.info("ready on %s", "127.0.0.1:9")
log.debug("not at this level")
with spans.served("a.B", "C", [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]):
    try:
        raise ValueError("first\\nsecond")
    except ValueError:
        log.exception("it broke")
"""


def said(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_each_event_is_one_line_of_json_that_names_process_and_trace() -> None:
    ready, broke = map(json.loads, said())
    assert (ready["process"], ready["level"], ready["event"]) == ("nlp-1", "info", "ready on 127.0.0.1:9")
    assert "trace_id" not in ready
    assert broke["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "ValueError: first\nsecond" in broke["exception"]


def test_a_line_is_read_back_as_it_was_said() -> None:
    line = logs.read(said()[1])
    assert line.level == "error"
    assert line.text.startswith("it broke\nTraceback")
    assert line.trace_id == "0af7651916cd43dd8448eb211c80319c"


def test_the_level_is_set_by_the_environment() -> None:
    assert len(said(MESHWORK_LOG_LEVEL="debug")) == 3
    assert len(said(MESHWORK_LOG_LEVEL="error")) == 1


def test_people_get_no_json() -> None:
    assert not said(MESHWORK_LOG_FORMAT="console")[0].startswith("{")


@pytest.mark.parametrize("raw", ["", "{", "{}", '{"event": 3}', "[1]", "plain words", '{"event":'])
def test_a_line_that_another_program_wrote_is_kept_as_it_is(raw: str) -> None:
    assert logs.read(raw) == logs.Line("", raw)


def test_lines_without_a_time_stay_behind_the_one_before_them() -> None:
    ours = '{"time": "2026-01-02T03:04:05.678901Z", "event": "one"}'
    entries = list(_entries(Path("nlp-1.log"), f"{ours}\nits second line\n"))
    assert [entry.time for entry in entries] == ["2026-01-02T03:04:05.678901Z"] * 2
