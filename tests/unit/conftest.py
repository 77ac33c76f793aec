from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.recording_server import Recorder, recording


@pytest.fixture(scope="session")
def recording_server() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture
def recorder(recording_server: Recorder) -> Recorder:
    """A server of the whole contract that has heard nothing yet."""
    recording_server.reset()
    return recording_server
